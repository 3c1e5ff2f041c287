"""Write the model cards of the bundled models from their own records, so that no card can be out of date.

    python scripts/bundled/cards.py [--bundled segue/bundled] [--results benchmarks/results]

A card (MODEL_CARD.md in the folder of the codec, of each bundle and of the tokenizer `phonetic`) is made of

- part.json, weights.safetensors and log.jsonl of every part: sizes, data, licences, training, held-out losses;
- codec-speech.json, codec-piano.json, codec-librivox.json, codec-speed.json (benchmarks/), acoustic-BUNDLE.json, and
  report-BUNDLE/ (`segue evaluate all`), tokens-phonetic.json (`segue evaluate tokens`), with links beside figures;
- cards/NAME.md, written by hand: how it sounds and what it can't do. Its first line, `of: FINGERPRINT`, says of which
  codec or bundle.

What README.md says in figures of the bundled models, between its two marks, is made of the same.

A result or text whose fingerprint is not that of the weights, or that isn't there, is not shown: the card says "not
measured yet for these weights" in its place, a line on standard error says which and why, and the exit code is 0,
since new weights come before their measurements. What is damaged, or a log of another run, is one line and exit code 2,
and no card is touched. The records of parts that bundled ones were begun with (part.json) may lie anywhere below
scripts/bundled/; they are found by fingerprint.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import card_readme as readme
import card_results as results
from card_markdown import joined, link, paragraph
from card_parts import TITLES, Trained, curve, data, sizes, training
from card_results import Shelf

from segue.artifact import joint_fingerprint, load_part, read_json, written_file
from segue.bundle import load_parts
from segue.codec.soundstream import CodecConfig
from segue.config import from_dict
from segue.errors import SegueError
from segue.generate.manner import Manner
from segue.semantic.packed import ONWARD
from segue.semantic.tokenizer import TokenizerConfig
from segue.tokenizers import PHONETIC, load_unpacked

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CARD = "MODEL_CARD.md"
FOR = {"speech": "English speech", "piano": "piano"}
"""Bundle -> what it goes on with; others by their name."""

MARK = "<!-- Written by scripts/bundled/cards.py from the files linked below.\n{text} alone is written by hand. -->"
NOT_TOLD = "Nobody has described these weights yet."

CODEC_USES = """\
**For** coding speech and piano into a few tokens a second, as the bundles beside it do; for research and teaching,
and to go on training from. Mono, 16 kHz. **Not for** archiving, telephony, or anything that needs the sound as it
was. What it gives back is made by a network: don't take a word or a note of it as evidence of what was said or
played. Please don't use it to imitate a person who has not agreed to it, or pass generated sound off as a recording."""

BUNDLE_USES = """\
**For** research, teaching, and trying out how the whole works; to begin the training of a model of your own with.
Mono, 16 kHz, {kind} only. **Not for** products, for transcribing or identifying people, or for anything where what is
said or played has to be right: a continuation is invented. **Misuse.** A continuation begins with the voice or
instrument of the prompt. Please don't imitate a person who has not agreed to it, and don't pass generated sound off
as a recording. Output isn't marked: say that it is generated when you share it. `segue evaluate detector` trains a
network to tell this bundle's output from recordings; how often it is right stands below."""


TOKENIZER_USES = """\
**For** research on what is said, without text: search, segmentation, training language models on its tokens
(`segue tokenize --semantic phonetic`); to begin the training of a tokenizer of your own with. 16 kHz. **Not for**
making sound with the bundles here, whose stages were trained on other tokens; nor for telling who speaks, or for what
has to be right. It hears what comes after a moment, so its tokens can't be made while sound is still coming in."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundled", type=Path, default=ROOT / "segue" / "bundled", help="codec/ and the bundles")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results", help="of the benchmarks")
    parser.add_argument("--texts", type=Path, default=HERE / "cards", help="what is written by hand")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md", help="whose marked lines are written anew")
    parser.add_argument("--earlier", type=Path, default=HERE, help="records of parts that others were begun with")
    arguments = parser.parse_args()
    try:
        cards, told = make(arguments.bundled, arguments.results, arguments.texts, arguments.earlier)
        lines, more = readme.quoted(arguments.bundled, arguments.results, arguments.readme)
        for path, text in (cards | {arguments.readme: lines}).items():
            with written_file(path) as beside:
                beside.write_text(text)
            print(path)
    except SegueError as error:
        print(f"cards: {error}", file=sys.stderr)
        sys.exit(2)
    for line in dict.fromkeys([*told, *more]):
        print(f"left out: {line}", file=sys.stderr)


def make(bundled: Path, results: Path, texts: Path, earlier: Path) -> tuple[dict[Path, str], list[str]]:
    """Every card as it should be.

    Args:
        bundled: folder of `codec/` and of the bundles.
        results: of benchmarks and reports.
        texts: folder of what is written by hand.
        earlier: searched for the records of parts that others were begun with.

    Returns:
        cards by path, and a line for each result or text that was left out.

    Raises:
        SegueError: if a part, log, result or text is damaged or doesn't belong to what lies beside it.
    """
    cards, told = {}, []
    folders = [bundled / "codec", *sorted(path.parent for path in bundled.glob("*/bundle.json"))]
    folders += [bundled / PHONETIC] if (bundled / PHONETIC).is_dir() else []
    makers = {"codec": codec_card, PHONETIC: tokenizer_card}
    for folder in folders:
        shelf = Shelf(results, folder)
        card = makers.get(folder.name, bundle_card)
        cards[folder / CARD] = card(folder, shelf, texts / f"{folder.name}.md", earlier)
        told += shelf.told
    return cards, told


def codec_card(folder: Path, shelf: Shelf, text: Path, earlier: Path) -> str:
    """The card of the codec in `folder`."""
    part = load_part(folder, "codec")
    config = from_dict(CodecConfig, part.config, "codec", complete=True)
    frames = config.sample_rate / config.hop_length
    rate = frames * math.log2(config.codebook_size) / 1000
    about = (
        f"SoundStream (arXiv 2107.03312), one codec for speech and piano: {config.sample_rate / 1000:g} kHz, mono, "
        f"causal, {frames:g} frames a second, {config.num_codebooks} codebooks of {config.codebook_size} codes, "
        f"{rate:g} kbit/s each and {rate * config.num_codebooks:g} in all. Fingerprint `{part.fingerprint}`, by "
        f"{link(folder / 'part.json', folder)}."
    )
    measured = [
        results.quality(shelf, "codec-speech.json", "Speech", part.fingerprint),
        results.quality(shelf, "codec-librivox.json", "Speech, LibriVox", part.fingerprint),
        results.quality(shelf, "codec-piano.json", "Piano", part.fingerprint),
        results.speed(shelf, "codec-speed.json", part.fingerprint),
    ]
    parts = [Trained("codec", part, folder)]
    told = _by_hand(text, part.fingerprint, shelf)
    return _card("The bundled codec", about, parts, measured, told, CODEC_USES, text, earlier)


def bundle_card(folder: Path, shelf: Shelf, text: Path, earlier: Path) -> str:
    """The card of the bundle in `folder`; of its codec it says where that one's is."""
    found = load_parts(folder)
    description = read_json(folder / "bundle.json", "bundle")
    fingerprint = joint_fingerprint({role: part.fingerprint for role, part in found.items()})
    places = {role: folder / description["parts"][role]["folder"] for role in found}
    parts = [Trained(role, found[role], places[role]) for role in TITLES if role in found and role != "codec"]
    kind, manner = FOR.get(folder.name, folder.name), Manner.read(description, folder, "parallel" in found)
    more = " and a parallel decoder (SoundStorm's, arXiv 2305.09636)" if "parallel" in found else ""
    recurrent = found["semantic"].config.get("recurrent")
    encoder = "by contrastive predictive coding (arXiv 1807.03748)" if recurrent else "of the w2v-BERT kind"
    codec = Path(places["codec"]).resolve() / CARD
    at = f"temperatures {results.words(manner.temperature)} and guidance {manner.guidance:g}"
    if manner.tries > 1:
        at += f", and of continuations up to 30 s that are made at once keeps the most fitting of {manner.tries} tries"
    about = (
        f"AudioLM (arXiv 2209.03143) for {kind}: a semantic tokenizer {encoder}, three stages{more}, over "
        f"the codec `{found['codec'].fingerprint}` ({link(codec, folder.resolve(), 'its card')}). Unless asked "
        f"otherwise it decodes with `{manner.decoder}` at {at}. Fingerprint `{fingerprint}`, of all parts "
        f"together, by {link(folder / 'bundle.json', folder)}."
    )
    measured = [results.evaluation(shelf, f"report-{folder.name}", fingerprint, manner)]
    if "parallel" in found:
        measured.append(results.decoders(shelf, f"acoustic-{folder.name}.json", fingerprint))
    told = _by_hand(text, fingerprint, shelf)
    uses = BUNDLE_USES.format(kind=kind)
    return _card(f"The bundled {folder.name} bundle", about, parts, measured, told, uses, text, earlier)


def tokenizer_card(folder: Path, shelf: Shelf, text: Path, earlier: Path) -> str:
    """The card of the tokenizer in `folder`, which is in no bundle."""
    packed, part = load_part(folder, "semantic"), load_unpacked(folder)
    config = from_dict(TokenizerConfig, part.config, "semantic", complete=True)
    about = (
        f"Semantic tokens of English speech, `--semantic {folder.name}`. It hears sound both ways, by contrastive "
        f"predictive coding (arXiv 1807.03748): as it goes on with the encoder of `{packed.requires.get(ONWARD)}`, the "
        f"speech bundle's, and from its end with one of its own, whose training on recordings turned around "
        f"this card tells. {config.vocab_size} clusters on {config.axes} discriminant axes. "
        f"Fingerprint `{part.fingerprint}`, by {link(folder / 'part.json', folder)}, as which it is kept in a quarter "
        f"of the space (`{packed.fingerprint}`)."
    )
    told = _by_hand(text, part.fingerprint, shelf)
    measured = [results.tokens(shelf, f"tokens-{folder.name}.json", part.fingerprint)]
    parts = [Trained("semantic", packed, folder)]
    return _card(f"The bundled tokenizer `{folder.name}`", about, parts, measured, told, TOKENIZER_USES, text, earlier)


def _card(
    title: str, about: str, parts: list[Trained], measured: list[str], told: str, uses: str, text: Path, earlier: Path
) -> str:
    folder = parts[0].folder if len(parts) == 1 else parts[0].folder.parent
    name = "phonetic.py" if folder.name == PHONETIC else "make.sh"
    script = link(HERE / name, folder, f"scripts/bundled/{name}")
    again = f"One command, {script}, makes all bundled models from the data, cards included; its first lines say how."
    if folder.name == PHONETIC:
        again = f"{script} says in its first lines by which commands, on top of those that make the speech bundle."
    return joined(
        MARK.format(text=f"scripts/bundled/cards/{text.name}"),
        f"# {title}",
        paragraph(about),
        "## How it sounds, and what it can't do",
        told,
        "## Intended use, and misuse",
        paragraph(uses),
        "## Sizes",
        sizes(parts, folder),
        "## Training data and licences",
        data(parts, folder, ROOT / "LICENSE-MODELS"),
        "## Training",
        training(parts, earlier, folder),
        "## Held-out losses",
        curve(parts, folder),
        "## How to make it again",
        paragraph(again),
        "## Measures",
        *measured,
    )


def _by_hand(path: Path, fingerprint: str, shelf: Shelf) -> str:
    """What was written of these weights, without its first line.

    Raises:
        SegueError: if there is a text that doesn't say of what it is.
    """
    if not path.is_file():
        shelf.told.append(f"{path}: not there")
        return NOT_TOLD
    first, _, text = path.read_text().partition("\n")
    mark, _, found = first.partition(": ")
    if mark != "of" or not found:
        raise SegueError(f"{path}: its first line says of which weights it is, 'of: {fingerprint}'")
    if found.strip() != fingerprint:
        shelf.told.append(f"{path}: of {found.strip()}, the card is of {fingerprint}")
        return NOT_TOLD
    return text.strip("\n")


if __name__ == "__main__":
    main()
