"""Segue: AudioLM as software. Give it a few seconds of raw audio and it goes on.

    import segue, soundfile
    bundle = segue.load("speech")
    wave, sample_rate = soundfile.read("prompt.wav")
    result = bundle.continue_audio(wave, sample_rate, seconds=7, seed=0)
    soundfile.write("out.wav", result.wave[0].numpy(), result.sample_rate)

Importing this has no effect on torch, logging or the environment.
"""

from segue.bundle import Bundle, load
from segue.errors import SegueError

__version__ = "0.1.0"
__all__ = ["Bundle", "SegueError", "__version__", "load"]
