"""The gallery's two pages, made of what lies in its folder: index.html to hear and see, README.md to read and link.

Parts (a bundle and its prompts) -> HTML that needs no network and no other file, and Markdown with a link a sound.
Sounds stand on the page as they lie in the folder, but for the prompts: those are FLAC there, so that what was made of
them can be made again, and few bytes on the page.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from card_markdown import table

from segue import audio
from segue.evaluate.markup import document, escape, facts, grid, listed, web
from segue.evaluate.panels import panel, scale
from segue.evaluate.players import TOP_DB, small_picture

AGAIN = "python scripts/bundled/gallery.py SPEECH/valid PIANO/valid examples/gallery"
FRAMES = 240
"""Of a spectrogram at most, so that the page stays small."""

MEDIA = "audio/ogg; codecs=vorbis"
ABOUT = (
    "None of these recordings was trained on. Which they are is drawn by a rule that spreads readers and instruments, "
    "and no sound was chosen by ear: each is what its command writes. Where the bundle makes several tries of a "
    "continuation (piano), the command keeps one by a rule. Sounds through the codec are refined, as files are."
)
MADE = (
    "A network made all sounds but the prompts, and what follows the prompt in a continuation: nobody said or played "
    "it. Say so where you share it, and don't pass it off as a recording."
)
HOW = (
    "Start another sound of a row while one plays, and it goes on from the same instant. Press a spectrogram to go "
    "there. A continuation begins with the prompt as it was recorded."
)


@dataclass(frozen=True)
class Sound:
    """A sound of the gallery.

    Attributes:
        title: what it is.
        detail: more about it.
        file: where it lies in the gallery's folder.
        command: of `segue`, that makes it in that folder; none for a recording.
    """

    title: str
    detail: str
    file: str
    command: str = ""


@dataclass(frozen=True)
class Prompt:
    """A prompt and all that was made of it.

    Attributes:
        name: unlike any other's.
        recording: what it was cut out of, and where.
        licence: of the recording.
        seed: of the continuations.
        prompt: the prompt itself.
        coded: what the codec keeps of it.
        continued: how it goes on.
    """

    name: str
    recording: str
    licence: str
    seed: int
    prompt: Sound
    coded: tuple[Sound, ...]
    continued: tuple[Sound, ...]

    @property
    def sounds(self) -> tuple[Sound, ...]:
        return (self.prompt, *self.coded, *self.continued)


@dataclass(frozen=True)
class Part:
    """The prompts of one kind.

    Attributes:
        name: of the kind.
        setting: of the bundle and how it was asked, as names and values.
        thanks: whom the recordings are owed to.
        prompts: a row each.
    """

    name: str
    setting: tuple[tuple[str, object], ...]
    thanks: str
    prompts: tuple[Prompt, ...]


def page(parts: Sequence[Part], folder: Path) -> str:
    """The whole of index.html.

    Args:
        parts: what is shown.
        folder: that the sounds are in.

    Raises:
        SegueError: if a sound can't be read.
    """
    links = "".join(f'<li><a href="#{escape(part.name)}">{escape(part.name.title())}</a></li>\n' for part in parts)
    body = f"""<a class="skip" href="#{escape(parts[0].name)}">To the sounds</a>
<header>
<h1>Gallery</h1>
<p class="lead">{escape(ABOUT)}</p>
<p>{escape(HOW)}</p>
{scale(TOP_DB)}</header>
<div class="page">
<nav aria-label="Parts of the gallery"><ol>
{links}<li><a href="#again">Make it again</a></li>
</ol></nav>
<main>
{"".join(_section(part, folder) for part in parts)}
<section id="again">
<h2>Make it again</h2>
<p>One of them, in the folder of this page, with the weights of the fingerprint above:</p>
{"".join(f"<p><code>{escape(line)}</code></p>" for line in _again(parts))}
<p>All of it: <code>{escape(AGAIN)}</code></p>
</section>
</main>
</div>
<footer>{escape(MADE)} Sounds are Ogg; the prompts' own files are FLAC.</footer>"""
    return document("Segue: gallery", ("report.css", "players.css"), body, web("players.js"))


def readme(parts: Sequence[Part]) -> str:
    """The whole of README.md."""
    text = [
        "# Gallery",
        f"<!-- Written by scripts/bundled/gallery.py:\n{AGAIN} -->",
        f"{ABOUT}\n\n{MADE}",
        "`index.html` plays all of it, with spectrograms, and needs no network: download or clone, and open it.",
    ]
    for part in parts:
        titles = [sound.title for sound in part.prompts[0].sounds]
        rows = [
            [one.name, one.recording, one.licence, str(one.seed), *(f"[hear]({sound.file})" for sound in one.sounds)]
            for one in part.prompts
        ]
        setting = ", ".join(f"{name} {value}" for name, value in part.setting)
        text += [f"## {part.name.title()}", table(["", "recording", "licence", "seed", *titles], rows)]
        text += [f"{part.thanks}\n\nMade with: {setting}."]
    again = "\n".join(_again(parts))
    text += ["## Make it again", f"One of them, in this folder:\n\n```\n{again}\n```", f"All of it: `{AGAIN}`"]
    return "\n\n".join(text) + "\n"


def _again(parts: Sequence[Part]) -> Iterator[str]:
    """Commands that make the sounds of the first prompt."""
    for sound in parts[0].prompts[0].sounds:
        if sound.command:
            yield f"segue {sound.command}"


def _section(part: Part, folder: Path) -> str:
    columns = ["prompt", "recording", "licence", "seed", *(escape(sound.title) for sound in part.prompts[0].sounds)]
    rows = [
        [
            f'<a href="#{escape(one.name)}">{escape(one.name)}</a>',
            f"<td>{escape(one.recording)}</td>",
            *(f'<td class="whole">{escape(value)}</td>' for value in (one.licence, one.seed)),
            *(f'<td><a href="{escape(sound.file)}">file</a></td>' for sound in one.sounds),
        ]
        for one in part.prompts
    ]
    return (
        f'<section id="{escape(part.name)}">\n<h2>{escape(part.name.title())}</h2>\n{facts(part.setting)}'
        f"{grid(f'{part.name.title()}: recordings and files', columns, rows, 'words')}"
        f"{listed([part.thanks])}"
        f"{''.join(_players(one, folder) for one in part.prompts)}</section>\n"
    )


def _players(one: Prompt, folder: Path) -> str:
    """The sounds of a prompt: those of its own length in a row, and those that go on in another."""
    coded = "".join(_panel(one, sound, folder) for sound in (one.prompt, *one.coded))
    continued = "".join(_panel(one, sound, folder) for sound in one.continued)
    return (
        f'<h3 id="{escape(one.name)}">{escape(one.name)}: {escape(one.recording)}</h3>\n'
        f'<h4>Through the codec</h4>\n<div class="row">{coded}</div>\n'
        f'<h4>Continued</h4>\n<div class="row">{continued}</div>\n'
    )


def _panel(one: Prompt, sound: Sound, folder: Path) -> str:
    path = folder / sound.file
    rate = audio.header(path).sample_rate
    wave = audio.read(path, rate).wave
    held = (path.read_bytes(), MEDIA) if path.suffix == ".ogg" else audio.compressed(wave, rate)
    image = small_picture(wave, rate, FRAMES)
    return panel(f"{one.name}, {sound.title}", sound.detail, len(wave) / rate, rate, held, image)
