"""The programs that are measured, ours and llama.cpp's."""
import json
import os
import subprocess
import sys
import time


def run(*command):
    """The standard output of a command, which is named on standard error."""
    print("+ " + " ".join(os.path.basename(part) for part in command[:3]), file=sys.stderr, flush=True)
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout


def timed(*command):
    """The seconds that a command takes."""
    # What a program before left to be written must not be waited for by one that syncs its file.
    os.sync()
    start = time.monotonic()
    run(*command)
    return time.monotonic() - start


class Programs:
    """Runs the programs of both sides with the same number of threads, on files in `work`.

    `engines` is the Python that has the engines of `engines.py`; None: they are left out.
    """

    def __init__(self, ours, peers, work, threads, engines=None):
        self.ours, self.peers, self.work, self.threads, self.engines = ours, peers, work, str(threads), engines

    def path(self, name):
        return f"{self.work}/{name}"

    def otconvert(self, model, name, *options, calibration=("--method", "per-token")):
        """A packed file called `name`, and the seconds that making it took."""
        path = self.path(f"{name}.otq")
        seconds = timed(f"{self.ours}/otconvert", model, path, "--quiet", "--force", "--threads", self.threads,
                        *calibration, *options)
        return path, seconds

    def otbench(self, path, *options, runs=1):
        """Units of each work per second, medians of runs."""
        output = run(f"{self.ours}/otbench", "model", path, *options, "--threads", self.threads, "--runs", str(runs),
                     "--json")
        return {result["work"].split()[0]: result["perSecond"] for result in json.loads(output)["results"]}

    def engine(self, work, name, model, *options):
        """What `engines.py` prints of an engine that comes as a wheel."""
        return run(self.engines, "-B", f"{os.path.dirname(__file__)}/engines.py", work, name, model,
                   self.engine_folder(name, model), *options)

    def engine_folder(self, name, model):
        """The folder of what an engine has made of a model."""
        return self.path(f"{name}-{os.path.basename(model)}")

    def engine_rates(self, name, model, *options):
        """Units of each work per second, of one round, and the check where it is not left out."""
        result = json.loads(self.engine("run", name, model, "--threads", self.threads, "--rounds", "1", *options))
        return {task: rate for task, (rate,) in result["rates"].items()}, result.get("check")

    def make_checkpoint(self, name):
        """A checkpoint of random weights."""
        run(f"{self.ours}/otbench", "make-checkpoint", self.path(name))
        return self.path(name)

    def our_logits(self, path, ids, logits):
        run(f"{self.ours}/otconvert", "eval", path, "--ids", ids, "--logits-out", logits, "--force", "--quiet",
            "--threads", self.threads)

    def llama_quantize(self, source, path, kind):
        """The seconds that making a file of `kind` takes."""
        return timed(f"{self.peers}/llama-quantize", source, path, kind, self.threads)

    def llama_bench(self, path, prompt, decode):
        """Tokens per second of a prompt and of decoding."""
        output = run(f"{self.peers}/llama-bench", "-m", path, "-p", str(prompt), "-n", str(decode), "-t", self.threads,
                     "-r", "1", "-o", "json")
        return {("prompt" if test["n_prompt"] else "decode"): test["avg_ts"] for test in json.loads(output)}

    def llama_logits(self, path, ids, logits, shape):
        run(f"{self.peers}/peer-logits", path, ids, logits, *map(str, shape), self.threads)
