#!/usr/bin/env bash
# The bundled models, from the data to segue/bundled/, by one command.
#
#   scripts/bundled/make.sh DATA WORK
#
# DATA holds speech/ and piano/ as the licences in LICENSE-MODELS name them; WORK takes what is made on the way (8 GB).
# Two jobs run side by side: the codec beside both semantic tokenizers, then speech beside piano. Each writes its log into
# WORK, and each step goes on where it was stopped. DEVICE=cuda trains on a GPU, without which the codec's last steps and
# the coarse stages take far longer than all the rest. PRECISION=float32 is for processors that have no bfloat16 products.
#
# The shipped weights were made by these commands in several goes, the codec's last steps and all stages on one GPU and
# the rest on CPU cores, so schedules differ. The codec's decoder had six blocks at first, was trained alone with
# discriminators for 5,500 steps before `heard` and 4,800 after it, and got two more blocks, which began as nearly
# nothing, before `judged`. Coarse and fine stages had learnt the codes of `judged` before those of `codec`: 1,348 and 825
# steps of speech, 1,352 and 830 of piano (records in earlier/), the fine ones' last steps on a CPU core in batches of 8.
# On the GPU the time was given instead of the steps, the rate falling over its last 55 to 70 %, and of each piano piece
# it had 13 s for the codec.
# `heard` had the loudness loss in another form at first (docs/log.md).
#
# To expect, held out, at the end of each training, and the minutes it took alone on a CPU core or (G) on one GPU, the
# stages side by side: `codes` 1.67 (118), `heard` 2.15 (50), `judged` 2.17 (6 G; another sum of losses), `codec` 2.17
# (5.4 G; other held-out crops, on which `judged` has 2.22); speech tokenizer 2.62 (103), piano's 3.84 (10); semantic
# stage 2.90 nats (1.4 G) and 2.68 (2.5 G), coarse 4.80 and 3.38 (2.6 and 2.4 G, after 3.4 each), fine 6.78 and 6.83 (5
# on a core, after 2.5 G each). Losses and seconds of every part are beside it as log.jsonl, those of parts before it in
# earlier/.
#
# SHARE=0.02 trains each part for so small a share of its steps, to see whether everything is in place, and puts the result
# into WORK/trial: what is shipped stays as it is. What follows in earnest needs another WORK.
set -euo pipefail
data=$(realpath "$1")
mkdir -p "$2"
work=$(realpath "$2")
here=$(dirname "$(realpath "$0")")
root=$(realpath "$here/../..")
speech="LibriSpeech CC BY 4.0; speechocean762 free; Picovoice Apache-2.0; PTDB ODbL/CC BY"
piano="POP909 MIT"
precision=${PRECISION:-bfloat16} device=${DEVICE:-cpu}
declare -A semantic_steps=([speech]=1370 [piano]=3353) coarse_steps=([speech]=2300 [piano]=2300)
declare -A fine_steps=([speech]=985 [piano]=990)
often=(--set train.warmup_steps=100 --set train.ema_decay=0.995 --set train.cooldown_fraction=0.6)
often+=(--set train.validate_every=100 --set train.patience=10) # the weights of the lowest held-out loss are kept
semantic_sizes=("${often[@]}" --set model.dropout=0.2 --set train.batch_size=32)
coarse_sizes=("${often[@]}" --set model.width=320 --set model.depth=6 --set model.heads=5 --set model.kv_heads=1
    --set model.feedforward=864 --set model.embedding_width=128 --set model.dropout=0.1 --set train.batch_size=32
    --set train.learning_rate=1.5e-3 --set train.crop_seconds=8.0)
fine_sizes=("${often[@]}" --set model.width=256 --set model.depth=3 --set model.kv_heads=1 --set model.feedforward=704
    --set model.dropout=0.05 --set train.batch_size=32 --set train.crop_seconds=3.0)
export OMP_NUM_THREADS=1
cd "$work"

steps() { # of so many, the share that is wanted
    awk -v steps="$1" -v share="${SHARE:-1}" 'BEGIN { wanted = int(steps * share); print wanted < 12 ? 12 : wanted }'
}

prepare() {
    if [[ $1 == speech ]]; then
        python "$here/prepare_speech.py" "$data/speech" speech
        python "$here/join_speech.py" speech/train speech/joined
        for split in train valid; do # LibriSpeech apart, so that it can be half of what an encoder hears
            mkdir -p speech/$split-read speech/$split-rest
            find speech/$split -name '*.wav' -name 'ls_*' -exec ln -f -t speech/$split-read {} +
            find speech/$split -name '*.wav' ! -name 'ls_*' -exec ln -f -t speech/$split-rest {} +
        done
    else
        python "$here/prepare_piano.py" "$data/piano" piano --train-songs 480 --valid-songs 20 --workers 2
    fi
}

tokenizers() {
    local place=(--resume --precision $precision --device $device)
    if [[ $1 == codec ]]; then
        local sound=(--data speech/train --data piano/train --weight 0.6 --weight 0.4 --valid speech/valid --valid piano/valid)
        segue train codec --recipe tiny --out runs/codes "${place[@]}" --licence "$speech; $piano" "${sound[@]}" \
            --set model.spectral.width=384 --set model.spectral.decoder_depth=8 --set train.steps=$(steps 24000) \
            --set train.learning_rate=6e-4 --set train.ema_decay=0.999 --set train.cooldown_fraction=0.35
        segue train codec --recipe tiny --init runs/codes --out runs/heard "${place[@]}" --licence "$speech; $piano" \
            "${sound[@]}" --set objective.loudness=0.5 --set objective.structure=0.5 --set train.steps=$(steps 6000) \
            --set train.learning_rate=5e-4 --set train.ema_decay=0.998 --set train.cooldown_fraction=0.6
        local judged=(--set objective.loudness=0.5 --set objective.structure=1.0 --set objective.adversarial=0.2
            --set objective.feature_matching=1.0 --set objective.adversarial_start_step=0
            --set objective.discriminators.wave_scales=0 --set objective.discriminators.periods=[2,3,5,7,11]
            --set objective.discriminators.stft_windows=[256,512,1024,2048] --set train.batch_size=64
            --set train.learning_rate=6e-4 --set train.ema_decay=0.999)
        segue train codec --recipe tiny --init runs/heard --out runs/judged "${place[@]}" --licence "$speech; $piano" \
            "${sound[@]}" "${judged[@]}" --set train.steps=$(steps 1919) --set train.cooldown_fraction=0.55
        segue train codec --recipe tiny --init runs/judged --out runs/codec "${place[@]}" --licence "$speech; $piano" \
            "${sound[@]}" "${judged[@]}" --set train.steps=$(steps 4374) --set train.cooldown_fraction=0.6
    else
        segue train semantic --recipe tiny --out runs/speech-semantic "${place[@]}" --licence "$speech" \
            --data speech/train-read --weight 0.5 --data speech/train-rest --weight 0.5 --valid speech/valid-read \
            --valid speech/valid-rest --set model.objective.kind=cpc --set model.warp=1.18 --set model.colour=0.4 \
            --set 'model.tokenizer.recurrent={"width": 384}' --set model.tokenizer.layer=1 \
            --set model.tokenizer.angular=true --set optimiser=muon --set train.crop_seconds=2.56 \
            --set train.batch_size=48 --set train.learning_rate=4e-3 --set train.cooldown_fraction=0.5 \
            --set train.ema_decay=0.997 --set train.steps=$(steps 4400)
        segue train semantic --recipe tiny --out runs/piano-semantic --resume --licence "$piano" --device $device \
            --data piano/train --valid piano/valid --set train.steps=$(steps 1100)
    fi
}

stages() {
    local -A source=([speech]=joined [piano]=train) hours=([speech]=13 [piano]=18)
    segue tokenize "$1/valid" --out "tokens/$1-valid" --codec runs/codec --semantic "runs/$1-semantic"
    segue tokenize "$1/${source[$1]}" --out "tokens/$1-train" --codec runs/codec --semantic "runs/$1-semantic" \
        --hours ${hours[$1]}
    for stage in semantic coarse fine; do
        local -n wanted=${stage}_steps sizes=${stage}_sizes
        segue train lm --stage $stage --recipe tiny --out "runs/$1-$stage-stage" --resume --precision $precision \
            --device $device --data "tokens/$1-train" --valid "tokens/$1-valid" --licence "${!1}" \
            --set train.steps=$(steps ${wanted[$1]}) "${sizes[@]}"
    done
}

side_by_side() { # a function, and the word that tells its two jobs apart
    echo "$(date +%T) $1: $2 and $3; logs in $work"
    local failed=""
    (set -e; "$1" "$2") >"$1-$2.log" 2>&1 & local first=$!
    (set -e; "$1" "$3") >"$1-$3.log" 2>&1 & local second=$!
    wait $first || failed=$2
    wait $second || failed=$3
    [[ -z $failed ]] || { tail "$1-$failed.log"; exit 1; }
}

side_by_side prepare speech piano
side_by_side tokenizers codec semantic
side_by_side stages speech piano

if [[ ${SHARE:-1} != 1 ]]; then
    mkdir -p trial
    cp -r "$root"/{README.md,LICENSE-MODELS,benchmarks,examples,scripts,segue,tests} trial/
    root=$work/trial here=$work/trial/scripts/bundled
    export PYTHONPATH=$root
fi
python "$here/assemble.py" runs "$root/segue/bundled"
python "$here/examples.py" speech/valid piano/valid "$root/examples"
python "$here/gallery.py" speech/valid piano/valid "$root/examples/gallery"
python "$here/golden.py"
python "$here/cards.py"  # figures of these weights come into the cards once they are measured; see its first lines
