#!/usr/bin/env bash
# The bundled models, from the data to segue/bundled/, by one command.
#
#   scripts/bundled/make.sh DATA WORK
#
# DATA holds speech/ and piano/ as the licences in LICENSE-MODELS name them; WORK takes what is made on the way (4 GB).
# Two jobs of one thread each run side by side: the codec beside both semantic tokenizers, then speech beside piano. Each
# writes its log into WORK, and each step goes on where it was stopped. Two hours and a half on two CPU cores.
#
# The shipped weights were made by these commands in several goes. The codec has the unit codes that its recipe had then
# (--set model.quantizer=factorised --set model.latent_width=0), the semantic tokenizers had no rounds with a teacher, and
# the semantic stages saw the first 6 h of tokens by name (segue tokenize --hours 6). Losses and seconds of every part are
# beside it as log.jsonl.
set -euo pipefail
data=$(realpath "$1")
mkdir -p "$2"
work=$(realpath "$2")
here=$(dirname "$(realpath "$0")")
root=$(realpath "$here/../..")
speech="LibriSpeech CC BY 4.0; speechocean762 free; Picovoice Apache-2.0; PTDB ODbL/CC BY"
piano="POP909 MIT"
declare -A semantic_steps=([speech]=300 [piano]=300) coarse_steps=([speech]=900 [piano]=1000)
declare -A fine_steps=([speech]=400 [piano]=300) parallel_steps=([speech]=1100 [piano]=750)
export OMP_NUM_THREADS=1
cd "$work"

prepare() {
    if [[ $1 == speech ]]; then
        python "$here/prepare_speech.py" "$data/speech" speech
    else
        python "$here/prepare_piano.py" "$data/piano" piano --train-songs 110 --valid-songs 20 --workers 2
    fi
}

tokenizers() {
    if [[ $1 == codec ]]; then
        segue train codec --recipe tiny --out runs/codec --resume --licence "$speech; $piano" \
            --data speech/train --data piano/train --weight 0.6 --weight 0.4 --valid speech/valid --valid piano/valid
    else
        segue train semantic --recipe tiny --out runs/speech-semantic --resume --licence "$speech" \
            --data speech/train --valid speech/valid \
            --set rounds=1 --set round_share=0.4 --set model.warp=1.18 --set model.colour=0.4
        segue train semantic --recipe tiny --out runs/piano-semantic --resume --licence "$piano" \
            --data piano/train --valid piano/valid --set train.steps=1100
    fi
}

stages() {
    for split in valid train; do
        segue tokenize "$1/$split" --out "tokens/$1-$split" --codec runs/codec --semantic "runs/$1-semantic"
    done
    for stage in semantic coarse fine; do
        local -n steps=${stage}_steps
        segue train lm --stage $stage --recipe tiny --out "runs/$1-$stage-stage" --resume \
            --set train.steps=${steps[$1]} --licence "${!1}" --data "tokens/$1-train" --valid "tokens/$1-valid"
    done
    segue train parallel --recipe tiny --out "runs/$1-parallel" --resume --set train.steps=${parallel_steps[$1]} \
        --licence "${!1}" --data "tokens/$1-train" --valid "tokens/$1-valid"
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

python "$here/assemble.py" runs "$root/segue/bundled"
python "$here/examples.py" speech/valid piano/valid "$root/examples"
python "$here/golden.py"
python "$here/cards.py"  # figures of these weights come into the cards once they are measured; see its first lines
