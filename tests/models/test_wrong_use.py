"""Whatever the command is given, it answers with one line that says what was wrong, and never with a traceback."""

import shutil
import zipfile
from pathlib import Path

import pytest

from gankern.models import cli
from gankern.models.training import loop

SMALL = ["--data", "digits:16", "--cond", "0", "--device", "cpu", "--kimg", "0.008", "--batch", "8"]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of what a newcomer may mistake for data or a checkpoint, and a small run with its damaged copies."""
    image = pytest.importorskip("PIL.Image", reason="image files need Pillow")
    place = tmp_path_factory.mktemp("place")
    for folder, size in (("odd", (17, 17)), ("sizes", (16, 16)), ("corrupt", (16, 16))):
        (place / folder).mkdir()
        for k in range(4):
            image.new("RGB", size if (folder, k) != ("sizes", 3) else (32, 32)).save(place / folder / f"{k}.png")
    (place / "corrupt" / "2.png").write_bytes(b"not an image")
    (place / "empty").mkdir()
    (place / "file.txt").write_text("hello")
    (place / "empty.zip").touch()
    with zipfile.ZipFile(place / "images.zip", "w") as archive:
        for k in range(4):
            archive.write(place / "odd" / f"{k}.png")
    (place / "cut.zip").write_bytes((place / "images.zip").read_bytes()[:-30])
    assert cli.main(["train", *SMALL, "--precision", "fp32", "--outdir", str(place)]) == 0
    (place / "00000-digits").rename(place / "run")
    whole = (place / "run" / "network-snapshot-000000.pt").read_bytes()
    (place / "cut.pt").write_bytes(whole[: len(whole) // 2])
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    (place / "flipped.pt").write_bytes(flipped)
    return place


WRONG = [
    ("train --data {}/odd", "got 17x17"),
    ("train --data {}/sizes", "sizes/3.png must be 16x16"),
    ("train --data {}/corrupt --batch 4", "corrupt/2.png"),
    ("train --data {}/empty", "no image files in"),
    ("train --data {}/file.txt", "expected a folder"),
    ("train --data {}/cut.zip", "cut.zip is not a readable zip file"),
    ("train --data {}/empty.zip", "empty.zip is not a readable zip file"),
    ("train --data {}/nothing.zip", "nothing.zip"),
    ("train --data digits:7", "resolution must be one of 8, 16, 32, got 7"),
    ("train --kimg inf", "kimg must be finite, got inf"),
    ("train --kimg nan", "kimg must be positive, got nan"),
    ("train --gamma inf", "r1_gamma must be finite, got inf"),
    ("train --seed 4294967296", "seed must be less than 2^31, got 4294967296"),
    ("train --workers -1", "--workers must not be negative, got -1"),
    ("train --device tpu", "--device must be cpu, cuda or cuda:N, got tpu"),
    ("train --device meta", "--device must be cpu, cuda or cuda:N, got meta"),
    ("train --keep 0", "keep must be positive, got 0"),
    ("train --outdir {}/file.txt", "expected a folder for the runs, got the file"),
    ("train --outdir {}/file.txt/runs", "Not a directory"),
    ("train --resume {}/nothing", "expected `latest`, a run folder or a snapshot file"),
    ("train --resume {}/empty", "no snapshot in"),
    ("train --resume {}/file.txt", "file.txt: this is no checkpoint"),
    ("train --resume {}/cut.pt", "cut.pt: the file is truncated or damaged"),
    ("train --resume {}/flipped.pt", "flipped.pt is"),
    ("sample {}/nothing", "nothing: No such file or directory"),
    ("sample {}/cut.pt", "cut.pt: the file is truncated or damaged"),
    ("sample {}/flipped.pt", "flipped.pt: the file is damaged"),
    ("sample {}/run --device tpu", "--device must be cpu, cuda or cuda:N, got tpu"),
    ("sample {}/run --outdir {}/file.txt/out", "file.txt/out: cannot make this folder (Not a directory)"),
    ("evaluate {}/run --data {}/odd", "got 17x17"),
    ("evaluate {}/run --metrics fid --inception {}/file.txt", "file.txt: expected TorchScript or a state dict"),
    ("evaluate {}/run --num-fake 0", "num_fake must be at least 2, got 0"),
    ("convert {}/run {}/empty", "empty: Is a directory"),
    ("convert {}/run {}/file.txt/x", "file.txt/x: Not a directory"),
    ("convert {}/file.txt {}/out.safetensors", "file.txt: this is no checkpoint"),
]


@pytest.mark.parametrize(("command", "message"), WRONG, ids=[command.replace("{}/", "") for command, _ in WRONG])
def test_a_mistake_is_one_line(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, command: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    argv = command.replace("{}", str(place)).split()
    assert cli.main([*argv, *(["--kimg", "0.008"] if argv[0] == "train" and "--kimg" not in argv else [])]) == 1
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith(f"gankern {argv[0]}: ")]
    assert message in told[0]
    assert "Traceback" not in "".join(told)
    assert all("to continue: gankern train --resume" in line for line in told[1:])


def test_of_a_run_the_newest_snapshot_that_is_whole_is_resumed(
    place: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(place / "run", tmp_path / "runs" / "00000-digits")
    newest = tmp_path / "runs" / "00000-digits" / "network-snapshot-000001.pt"
    shutil.copy(place / "cut.pt", newest)
    assert cli.main(["sample", str(newest.parent), "--outdir", "out"]) == 1
    assert f"{newest}: the file is truncated or damaged" in capsys.readouterr().err
    assert cli.main(["train", "--resume", "latest", "--device", "cpu", "--kimg", "0.016"]) == 0
    printed = capsys.readouterr()
    assert "runs/00000-digits/network-snapshot-000001.pt is truncated or not a snapshot" in printed.err
    assert "going back to network-snapshot-000000.pt" in printed.err
    assert "run folder runs/00000-digits" in printed.out
    assert not newest.exists()
    assert newest.with_name(f"{newest.name}.damaged").exists()


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [(KeyboardInterrupt(), 130, "interrupted"), (MemoryError(), 1, "out of memory"), (OSError(28, "full"), 1, "full")],
)
def test_what_ends_a_run_comes_with_the_command_that_continues_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, error: BaseException, status: int, words: str
) -> None:
    argv = ["train", *SMALL, "--precision", "fp32", "--outdir", str(tmp_path)]
    assert cli.main(argv) == 0
    (run_dir,) = tmp_path.iterdir()

    def fail(*args: object) -> None:
        raise error

    monkeypatch.setattr(loop, "train_step", fail)
    assert cli.main(["train", "--resume", str(run_dir), "--device", "cpu", "--kimg", "0.016"]) == status
    first, second = capsys.readouterr().err.splitlines()[-2:]
    assert words in first
    assert second == f"gankern train: to continue: gankern train --resume {run_dir}"
