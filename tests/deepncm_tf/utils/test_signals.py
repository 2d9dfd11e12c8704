# SPDX-License-Identifier: Apache-2.0
"""Signals end programs in one line, with the shell's status, whatever they are doing."""

import os
import pathlib
import pty
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from deepncm_tf.utils import signals

SIGNALS = pytest.mark.parametrize("signum", signals.SIGNALS, ids=lambda s: s.name)
COMPUTE = (
    "__import__('hashlib').pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)"  # minutes, in C
)
START = """
    import os, signal, sys, time
    from deepncm_tf.utils import signals
    signals.end_program("program")
"""
STEPS = """
    from deepncm_tf.runs.command_line import CommandLine
    with CommandLine("program", "").errors(), signals.Signals().handled() as stop:
        print("ready", flush=True)
        while True:
            STEP
            stop.check()
"""


def script(*parts, step="time.sleep(0.02)"):
    return "".join(map(textwrap.dedent, parts)).replace("STEP", step)


def start(code, **kwargs):
    """Starts a program and waits until it says that it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": ""},
        **kwargs,
    )
    assert process.stdout.readline() == "ready\n", process.stderr.read()
    return process


def end(process):
    """Status and lines of a program that is ending; one that is not is killed."""
    try:
        _, error = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, error.splitlines()


@SIGNALS
def test_at_once_while_it_computes(signum):
    process = start(script(START, f"print('ready', flush=True)\n{COMPUTE}\n"))
    time.sleep(0.1)
    process.send_signal(signum)
    assert end(process) == (128 + signum, [f"program: Stopped by {signum.name}."])


@SIGNALS
def test_after_a_step(signum):
    process = start(script(START, STEPS))
    process.send_signal(signum)
    status, lines = end(process)
    assert status == 128 + signum
    assert lines == [
        f"{signum.name}: stopping after this step",
        f"program: {signals.StoppedError(signum)}",
    ]


def test_a_second_ctrl_c_ends_a_step_at_once():
    process = start(script(START, STEPS, step=COMPUTE))
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert "stopping after this step" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)  # one who asks nicely again waits
    process.send_signal(signal.SIGINT)
    assert end(process) == (130, ["program: Stopped by SIGINT."])


def test_two_signals_that_come_together():
    together = """
        signal.pthread_sigmask(signal.SIG_BLOCK, signals.SIGNALS)
        for signum in signals.SIGNALS:
            os.kill(os.getpid(), signum)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.SIGNALS)
    """
    step = "exec(sys.argv[1]); time.sleep(0.02)"
    for first in (START, START.replace("signals.end_program", "str")):
        process = subprocess.run(
            [sys.executable, "-c", script(first, STEPS, step=step), script(together)],
            capture_output=True,
            text=True,
            check=False,
        )
        lines = process.stderr.splitlines()
        assert len(lines) == 2, lines
        assert "stopping after this step" in lines[0]
        assert "goes on from the last checkpoint" in lines[1]
        assert process.returncode in [128 + signum for signum in signals.SIGNALS]


@pytest.mark.parametrize("steps", [False, True])
def test_what_is_ignored_stays_ignored(steps):
    """As under nohup, and in a background job of a script."""

    def ignore():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    wait = "print('ready', flush=True)\ntime.sleep(60)\n"
    process = start(script(START, STEPS if steps else wait), preexec_fn=ignore)
    for signum in (signal.SIGHUP, signal.SIGINT, signal.SIGINT):
        process.send_signal(signum)
    time.sleep(0.2)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    status, lines = end(process)
    assert status == 143
    assert len(lines) == 1 + steps


def test_a_library_s_second_ctrl_c_is_a_keyboard_interrupt():
    interrupted = signals.Signals()
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), interrupted.handled():
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupted.received == signal.SIGINT
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
    assert interrupted.received == signal.SIGINT
    assert signal.getsignal(signal.SIGINT) is before


def test_no_temporary_file_is_left(tmp_path):
    write = """
        from deepncm_tf.utils import files
        def write(path):
            path.write_text("half")
            print("ready", flush=True)
            time.sleep(60)
        files.write_atomically(sys.argv[1], write)
    """
    code = script(START, write).replace("sys.argv[1]", repr(str(tmp_path / "bank.npz")))
    process = start(code)
    assert len(os.listdir(tmp_path)) == 1
    process.send_signal(signal.SIGTERM)
    assert end(process)[0] == 143
    assert os.listdir(tmp_path) == []


def test_what_was_printed_is_not_lost_and_nobody_has_to_read_it():
    text = "print('ready', flush=True)\nprint('figures')\ntime.sleep(60)\n"
    process = start(script(START, text))
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert process.stdout.read() == "figures\n"
    process.communicate()

    process = start(script(START, STEPS, step="print('figures', end=''); time.sleep(0.02)"))
    process.stdout.close()  # as where Ctrl-C ended `tee` first
    process.send_signal(signal.SIGINT)
    process.wait(60)
    assert process.returncode == 130
    assert len(process.stderr.read().splitlines()) == 2
    process.stderr.close()

    full = "print('ready', flush=True)\nwhile True: print('figures' * 1000)\n"
    process = start(script(START, full))
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    process.communicate()


def test_a_terminal_that_is_closed():
    """The program goes on to its checkpoint, though nothing can be printed any more."""
    step = "print('figures', flush=True); time.sleep(0.02)"
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", script(START, STEPS, step=step)])
    output = b""
    while b"figures" not in output:
        output += os.read(terminal, 1000)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 129


def test_a_terminal_that_is_closed_before_the_signal_is_heard(tmp_path):
    """Here it is never heard; printing goes on all the same."""
    deaf = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    ends = "sys.stdin.read(1) if n == 0 else print('figures', file=sys.stderr)"
    steps = f"""
        for n in range(3):
            print("figures", flush=True)
            {ends}
        open({str(tmp_path / "done")!r}, "w").close()
    """
    reader, writer = os.pipe()
    pid, terminal = pty.fork()
    if pid == 0:
        os.dup2(reader, 0)
        os.close(writer)
        os.execv(sys.executable, [sys.executable, "-c", deaf + script(START, steps)])
    output = b""
    while b"figures" not in output:
        output += os.read(terminal, 1000)
    os.close(terminal)
    os.write(writer, b"x")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert (tmp_path / "done").exists()
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize(
    "program",
    [
        *("cifar_main", "classify", "continual", "discover", "evaluate"),
        *("explain", "features", "few_shot", "gallery", "imagenet_main", "teach"),
    ],
)
def test_every_command_line_while_it_imports(tmp_path, program):
    """Of what takes time to import, absl comes first: here it is a long wait."""
    (tmp_path / "absl").mkdir()
    (tmp_path / "absl" / "__init__.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n"
    )
    repository = pathlib.Path(signals.__file__).parents[2]
    process = subprocess.run(
        [sys.executable, "-m", f"deepncm_tf.{program}"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{repository}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert process.returncode == 130
    assert process.stderr == f"{program}: Stopped by SIGINT.\n"


def train(folder, *arguments):
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "deepncm_tf.cifar_main", "--dataset=digits"),
            *(f"--model_dir={folder}", *arguments),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_run_at_its_first_trace(tmp_path):
    """Two Ctrl-C, when the folder has been made and TensorFlow traces or compiles."""
    process = train(tmp_path / "run", "--jit_compile=on")  # which takes many seconds
    while not (tmp_path / "run" / "config.json").exists():
        time.sleep(0.1)
    time.sleep(3)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
    status, lines = end(process)
    assert status == 130
    lines = [line for line in lines if "SIGINT" in line or "Traceback" in line]
    assert lines == [
        "SIGINT: stopping after this step",
        "cifar_main: Stopped by SIGINT.",
    ]


@pytest.mark.slow
def test_a_run_whose_connection_is_dropped_goes_on(tmp_path):
    folder = tmp_path / "run"
    process = train(folder, "--train_epochs=3")
    while not list(folder.glob("checkpoints/epoch-*.npz")):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGHUP)
    status, lines = end(process)
    assert status == 129
    assert lines[-1] == f"cifar_main: {signals.StoppedError(signal.SIGHUP)}"
    process = train(folder, "--train_epochs=3")
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    assert "Going on after" in out
