#!/usr/bin/env bash
# The bundled models, from the data to segue/bundled/: the commands and settings behind them. The shipped weights came from
# these in several goes, with stops between; the cards say where a go differed.
#
#   scripts/bundled/make.sh DATA WORK
#
# DATA holds speech/ and piano/ as the licences in LICENSE-MODELS name them; WORK takes what is made on the way (4 GB).
# Every step goes on where it was stopped. On two CPU cores the steps take about three hours, added up; the curves are beside each part as log.jsonl.
set -euo pipefail
data=$(realpath "$1")
mkdir -p "$2"
work=$(realpath "$2")
here=$(dirname "$(realpath "$0")")
root=$(realpath "$here/../..")
speech="LibriSpeech CC BY 4.0; speechocean762 free; Picovoice Apache-2.0; PTDB ODbL/CC BY"
piano="POP909 MIT"
cd "$work"

python "$here/prepare_speech.py" "$data/speech" speech
python "$here/prepare_piano.py" "$data/piano" piano --train-songs 150 --valid-songs 20

segue train codec --recipe tiny --out runs/codec --resume --licence "$speech; $piano" \
    --data speech/train --data piano/train --weight 0.6 --weight 0.4 --valid speech/valid --valid piano/valid
segue train semantic --recipe tiny --out runs/speech-semantic --resume --licence "$speech" \
    --data speech/train --valid speech/valid
segue train semantic --recipe tiny --out runs/piano-semantic --resume --licence "$piano" \
    --data piano/train --valid piano/valid --set train.steps=1100

for kind in speech piano; do
    licence=${!kind}
    [[ $kind == speech ]] && hours=6.6 || hours=6
    for split in train valid; do
        segue tokenize $kind/$split --hours $hours --out tokens/$kind-$split \
            --codec runs/codec --semantic runs/$kind-semantic
    done
    for stage in semantic coarse fine; do
        segue train lm --stage $stage --recipe tiny --out runs/$kind-$stage-stage --resume \
            --licence "$licence" --data tokens/$kind-train --valid tokens/$kind-valid
    done
done

python "$here/assemble.py" runs "$root/segue/bundled"
python "$here/examples.py" speech/valid piano/valid "$root/examples"
python "$here/golden.py"
