"""Dashboards rebuilt from finished runs, read back from what W&B and TensorBoard wrote."""

import gzip
import json
import os
import pty
import shutil
import struct
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import hydra
import numpy as np
import pytest
import wandb
import yaml
from commands import compose, table, trained
from matplotlib.image import imread
from synthetic import Grid
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from wandb.proto.wandb_internal_pb2 import Record

import fdseg
from fdseg import runs, sync
from fdseg.errors import FdsegError
from fdseg.report.collect import collect
from fdseg.report.loggers import opened

TINY = [
    "data=hippocampus", "data.root=null", "data.phantom.subjects=8", "data.phantom.scale=0.5",
    "data.split.training=4", "data.split.validation=1", "data.split.test=3", "n=2", "theta=0.3",
    "trainer.max_epochs=4", "trainer.check_val_every_n_epoch=2", "trainer.accelerator=cpu",
    "fusion=early", "split=learnable",
]  # fmt: skip


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    """A finished run that all loggers followed."""
    root = tmp_path_factory.mktemp("runs")
    return trained(*TINY, f"runs={root}", "logger=all")


def run(root, *overrides):
    sync.run(compose("sync", f"runs={root}", *overrides))


@pytest.fixture(scope="module")
def views(live, tmp_path_factory):
    """What sync makes of it."""
    output = tmp_path_factory.mktemp("views")
    run(live.parents[4], f"output={output}")
    return output / live.relative_to(live.parents[4])


def stored(folder):
    """What an offline run really wrote: protobuf records in blocks, as LevelDB keeps its log."""
    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    data, at, parts = file.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while at < len(data):
        left = 2**15 - at % 2**15
        if left < 7:  # no record begins so near to the end of a block
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(parts)
            parts = b""


def key(item):
    return item.key or "/".join(item.nested_key)


class Stored:
    """The records of an offline run, put together."""

    def __init__(self, folder):
        records = list(stored(folder))
        (self.run,) = (r.run for r in records if r.WhichOneof("record_type") == "run")
        self.history = [
            {key(i): json.loads(i.value_json) for i in r.history.item}
            for r in records if r.WhichOneof("record_type") == "history"
        ]  # fmt: skip
        self.summary, self.config = {}, {}
        for record in records:
            for item in record.summary.update:
                self.summary[key(item)] = json.loads(item.value_json)
            for item in (*record.config.update, *record.run.config.update):
                self.config[key(item)] = json.loads(item.value_json)

    def curve(self, name):
        """Step, epoch and value."""
        at = "trainer/global_step"
        return [(row[at], row["epoch"], row[name]) for row in self.history if name in row]


def events(folder):
    accumulator = EventAccumulator(str(folder / "tensorboard"))
    accumulator.Reload()
    return accumulator


def test_wandb_keeps_runs_by_task_n_and_fusion_and_marks_a_phantom(views, live):
    record = Stored(views).run
    assert record.run_id == live.name[-8:]
    assert record.run_group == "hippocampus-phantom-n2"
    assert record.job_type == "early"
    assert list(record.tags) == ["hippocampus", "phantom", "unet", "early", "n2"]
    assert record.display_name == "early-seed0"
    assert record.project == "fdseg"
    assert not record.resumed


def test_wandb_has_the_configuration_and_the_summary_of_the_result(views, live):
    kept = Stored(views)
    config = yaml.safe_load((live / "config.yaml").read_text())
    assert {name: kept.config[name] for name in config} == config
    result = json.loads((live / "result.json").read_text())
    for metric in ("dice", "hd95_mm", "nsd"):
        assert kept.summary[f"test/{metric}"] == pytest.approx(result["test"][metric]["mean"])
        assert kept.summary[f"test/{metric}_sem"] == pytest.approx(result["test"][metric]["sem"])
        anterior = result["test"]["structures"]["anterior"][metric]["mean"]
        assert kept.summary[f"test/anterior/{metric}"] == pytest.approx(anterior)
    assert kept.summary["test/missed"] == result["test"]["missed"]
    assert kept.summary["test/learned_theta"] == pytest.approx(result["learned_theta"])
    assert kept.summary["validation/best_dice"] == pytest.approx(result["validation"]["dice"])


def test_wandbs_table_has_a_row_for_each_test_subject_with_its_structures(views, live):
    (path,) = media(views).glob("table/test/cases*.table.json")
    kept = json.loads(path.read_text())
    rows = {row[0]: dict(zip(kept["columns"], row, strict=True)) for row in kept["data"]}
    cases = table(live / "cases.csv")
    assert len(kept["data"]) == len(rows) == len(cases) / 2
    for case, row in rows.items():
        own = {r["structure"]: r for r in cases if r["case"] == case}
        for metric in ("dice", "hd95_mm", "nsd"):
            anterior, posterior = (float(own[s][metric]) for s in ("anterior", "posterior"))
            assert row[f"anterior/{metric}"] == pytest.approx(anterior)
            assert row[f"posterior/{metric}"] == pytest.approx(posterior)
            assert row[metric] == pytest.approx((anterior + posterior) / 2)
        assert row["participant"] == own["anterior"]["participant"]
        assert row["missed"] == sum(r["missed"] == "True" for r in own.values())


def test_wandb_has_the_overlays_and_a_heat_map(views, live):
    names = {"overlays/worst", "overlays/median", "overlays/best", "spectra/error"}
    summary = Stored(views).summary
    for name in names:
        (file,) = summary[f"{name}/filenames"]
        pixels = imread(media(views).parent / file)
        if name == "spectra/error":
            assert pixels.std() > 0.05  # not a blank page
        else:
            assert np.array_equal(pixels, imread(live / f"{name}.png")[..., :3])


def media(folder):
    (found,) = folder.glob("wandb/offline-run-*/files/media")
    return found


def test_curves_are_those_that_a_logger_got_while_the_run_trained(views, live):
    kept, followed = Stored(views), Stored(live)
    history = table(live / "history.csv")
    for name, column in (("train/loss", "train_loss"), ("validation/dice", "validation_dice")):
        points = [
            (int(row["step"]) - 1, int(row["epoch"]) - 1, float(row[column]))
            for row in history if row[column]
        ]  # fmt: skip
        assert len(points) == {"train/loss": 4, "validation/dice": 2}[name]
        for curve in (kept.curve(name), followed.curve(name)):
            assert np.array(curve) == pytest.approx(np.array(points), rel=1e-5)
        for folder in (views, live):
            curve = [(event.step, event.value) for event in events(folder).Scalars(name)]
            assert np.array(curve) == pytest.approx(np.array(points)[:, [0, 2]], rel=1e-5)


def test_a_learned_theta_is_followed_by_the_step_and_rebuilt_by_the_epoch(views, live):
    name = "learned/theta"
    followed = {step: value for step, _, value in Stored(live).curve(name)}
    rebuilt = {step: value for step, _, value in Stored(views).curve(name)}
    assert [*followed] == [*range(8)]
    assert [*rebuilt] == [1, 3, 5, 7]
    assert rebuilt == pytest.approx({step: followed[step] for step in rebuilt}, rel=1e-5)


def test_a_run_shows_the_same_names_and_scores_live_and_synced(views, live):
    for name in ("run_id", "run_group", "job_type", "tags", "display_name", "project"):
        assert getattr(Stored(views).run, name) == getattr(Stored(live).run, name)
    rebuilt, followed = Stored(views), Stored(live)

    def own(names):
        return {name for name in names if not name.startswith("_")}

    assert own(rebuilt.summary) == own(followed.summary)
    assert own(rebuilt.config) == own(followed.config)
    scores = [name for name, value in rebuilt.summary.items() if name.startswith("test/")
              and isinstance(value, float)]  # fmt: skip
    assert len(scores) == 3 * 3 * 2 + 1  # structures and all, metrics, mean and SEM; θ
    assert all(rebuilt.summary[name] == followed.summary[name] for name in scores)
    tags = [events(folder).Tags() for folder in (views, live)]
    for kind in ("scalars", "images", "tensors"):
        assert sorted(tags[0][kind]) == sorted(tags[1][kind])


def test_tensorboard_has_the_scores_the_pictures_and_the_table(views, live):
    found = events(views)
    result = json.loads((live / "result.json").read_text())
    dice = result["test"]["dice"]["mean"]
    assert found.Scalars("test/dice")[-1].value == pytest.approx(dice)
    names = {"overlays/worst", "overlays/median", "overlays/best", "spectra/error"}
    assert {*found.Tags()["images"]} == names
    text = found.Tensors("test/cases/text_summary")[0].tensor_proto.string_val[0].decode()
    lines = [line.replace(" ", "").replace("\\", "") for line in text.splitlines()]
    for row in table(live / "cases.csv"):
        (line,) = (line for line in lines if line.startswith(f"|{row['case']}|"))
        assert f"|{float(row['dice']):.4g}|" in line


def test_tensorboards_hparams_are_the_configuration_and_the_scores(views):
    metadata = events(views).summary_metadata
    start = HParamsPluginData.FromString(
        metadata["_hparams_/session_start_info"].plugin_data.content
    )
    parameters = start.session_start_info.hparams
    assert parameters["fusion/name"].string_value == "early"
    assert parameters["n"].number_value == 2
    assert parameters["theta"].number_value == pytest.approx(0.3)
    experiment = HParamsPluginData.FromString(metadata["_hparams_/experiment"].plugin_data.content)
    metrics = {info.name.tag for info in experiment.experiment.metric_infos}
    assert {"test/dice", "test/hd95_mm", "validation/best_dice"} <= metrics
    assert metrics <= {*events(views).Tags()["scalars"]}
    assert "hp_metric" not in metrics


def files(folder):
    """With their times; but for W&B's logs, which it writes for as long as the process lives."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".log")
    return {path: path.stat().st_mtime_ns for path in paths}


def test_a_second_sync_writes_nothing_and_a_changed_run_replaces_its_own_view(
    live, tmp_path, capsys
):
    root = tmp_path / "runs"
    folder = shutil.copytree(live, root / live.relative_to(live.parents[4]))
    Grid(root, "heart").add()
    run(root)
    assert "2 runs synced, 0 unchanged" in capsys.readouterr().out
    before = files(root / "dashboards")
    run(root)
    assert "0 runs synced, 2 unchanged" in capsys.readouterr().out
    assert files(root / "dashboards") == before
    result = json.loads((folder / "result.json").read_text())
    result["validation"]["dice"] = 0.125
    (folder / "result.json").write_text(json.dumps(result))
    run(root)
    assert "1 run synced, 1 unchanged" in capsys.readouterr().out
    views = root / "dashboards" / folder.relative_to(root)
    assert Stored(views).summary["validation/best_dice"] == 0.125  # of the one offline run
    assert Stored(views).run.run_id == live.name[-8:]
    assert len(list(views.rglob("*.tfevents.*"))) == 1
    untouched = {path: time for path, time in before.items() if "heart" in str(path)}
    assert untouched
    assert untouched.items() <= files(root / "dashboards").items()


@pytest.mark.parametrize("moment", ["show", "replay"])
def test_a_sync_that_was_killed_begins_that_run_anew(tmp_path, monkeypatch, moment):
    folder = Grid(tmp_path, "heart").add()
    views = tmp_path / "dashboards" / folder.relative_to(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(f"fdseg.report.dashboard.{moment}", kill)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path)
    assert len(list(views.rglob("*.tfevents.*"))) == 1
    run(tmp_path)
    assert Stored(views).run.run_id == folder.name[-8:]
    assert len(list(views.rglob("*.tfevents.*"))) == 1
    assert "test/dice" in events(views).Tags()["scalars"]


def kill(*_):
    raise KeyboardInterrupt


def test_other_settings_of_the_loggers_write_the_views_anew(tmp_path, capsys):
    folder = Grid(tmp_path, "heart").add()
    for words, expected in (
        (["logger=tensorboard"], "1 run synced"),
        (["logger=tensorboard"], "0 runs synced"),
        (["logger=wandb", "logger.wandb.project=nuclei"], "1 run synced"),
    ):
        run(tmp_path, *words)
        assert expected in capsys.readouterr().out
    views = tmp_path / "dashboards" / folder.relative_to(tmp_path)
    assert Stored(views).run.project == "nuclei"
    assert Stored(views).run.run_group == "heart-n4"
    assert "real" in Stored(views).run.tags
    assert not (views / "tensorboard").exists()


def test_unfinished_foreign_and_corrupt_folders_are_listed_and_left_out(tmp_path, capsys):
    grid = Grid(tmp_path, "heart")
    good = grid.add()
    unfinished, corrupt, foreign, unresolved, strange = grid.cell("early", 4, 5)
    (unfinished / "result.json").unlink()
    (corrupt / "cases.csv").write_text("nonsense")
    (foreign / "result.json").write_text("{}")
    text = (unresolved / "config.yaml").read_text()
    (unresolved / "config.yaml").write_text(text.replace("32-true", "${oc.env:HOME}"))
    result = json.loads((strange / "result.json").read_text())
    del result["validation"]
    (strange / "result.json").write_text(json.dumps(result))
    run(tmp_path, "logger=tensorboard")
    printed = capsys.readouterr().out
    for folder, kind in (
        (unfinished, "unfinished"), (corrupt, "corrupt"), (foreign, "corrupt"),
        (unresolved, "foreign"), (strange, "corrupt"),
    ):  # fmt: skip
        (line,) = (line for line in printed.splitlines() if folder.name in line)
        assert kind in line
    assert "1 run synced" in printed
    records = list((tmp_path / "dashboards").rglob(sync.RECORD))
    assert [record.parent.name for record in records] == [good.name]


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("folder", "", "config.yaml: folder= is not that of a run"),
        ("folder", "l", "config.yaml: folder=l is not that of a run"),
        ("folder", ["runs"], "is not that of a run"),
        ("loss", {"big": 10**400}, "cannot be shown: OverflowError: int too large"),
    ],
)
def test_one_odd_run_does_not_stop_the_others(key, value, reason, tmp_path, capsys):
    odd, good = Grid(tmp_path, "heart").cell("none", 4, 2)
    config = yaml.safe_load((odd / "config.yaml").read_text()) | {key: value}
    (odd / "config.yaml").write_text(yaml.safe_dump(config))
    run(tmp_path)
    printed = capsys.readouterr().out
    (line,) = (line for line in printed.splitlines() if odd.name in line)
    assert "foreign" in line
    assert reason in line
    assert "1 run synced" in printed
    (views,) = tmp_path.glob("dashboards/**/wandb")
    assert views.parent.name == good.name
    assert Stored(views.parent).run.run_id == good.name[-8:]


def test_a_second_sync_at_the_same_time_says_so_and_writes_nothing(tmp_path):
    Grid(tmp_path, "heart").add()
    output = tmp_path / "dashboards"
    message = r"dashboards: another process works on this sync\. Wait for it"
    with runs.only_process(output), pytest.raises(FdsegError, match=message):
        run(tmp_path)
    assert [path.name for path in output.iterdir()] == [runs.LOCK]
    run(tmp_path, "logger=tensorboard")
    assert len(list(output.rglob("*.tfevents.*"))) == 1


def test_broken_tables_and_pictures_cost_their_own_panel_and_nothing_else(live, tmp_path):
    folder = shutil.copytree(live, tmp_path / live.name)
    (folder / "overlays" / "best.png").write_bytes(b"no picture")
    (folder / "spectra.csv").write_text("step,band\n1,x\n")
    (folder / "history.csv").write_text("epoch,step\n1,x\n")
    run(tmp_path, "logger=tensorboard")
    found = events(tmp_path / "dashboards" / live.name).Tags()
    assert {*found["images"]} == {"overlays/worst", "overlays/median"}
    assert "train/loss" not in found["scalars"]
    assert "test/dice" in found["scalars"]


def test_a_report_does_not_take_views_for_runs(live, tmp_path):
    shutil.copytree(live, tmp_path / live.name)
    run(tmp_path, "logger=wandb")
    (inside,) = tmp_path.glob("dashboards/*/wandb/offline-run-*/files")
    (inside / "config.yaml").write_text("wandb_version: 1\n")  # as an online run leaves it
    assert collect(tmp_path).left_out == ()


def test_a_run_that_was_moved_is_the_same_one_there(tmp_path):
    folder = Grid(tmp_path / "a", "heart").add()
    folder.rename(tmp_path / "mine")
    run(tmp_path, "logger=wandb")
    views = tmp_path / "dashboards" / "mine"
    assert Stored(views).run.run_id == folder.name[-8:]


@pytest.mark.parametrize(
    ("words", "message"),
    [(["logger=csv"], "logger: names none"), ([], "no finished run is in it")],
)
def test_nothing_to_do_is_an_error_that_says_so(words, message, tmp_path):
    with pytest.raises(FdsegError, match=message):
        run(tmp_path, *words)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    Grid(tmp_path / "runs", "heart").add()
    (tmp_path / "file").write_text("a file")
    with pytest.raises(FdsegError, match=r"cannot be written .*output=…"):
        run(tmp_path / "runs", f"output={tmp_path / 'file'}", "logger=tensorboard")


@pytest.mark.parametrize("logger", ["tensorboard", "wandb"])
def test_a_logger_whose_folder_cannot_be_written_is_named(logger, tmp_path):
    (tmp_path / "file").write_text("a file")
    config = compose("train", f"logger={logger}", "folder=somewhere")
    config.logger[logger].save_dir = str(tmp_path / "file")
    loggers = hydra.utils.instantiate(config.logger, _convert_="all").values()
    with pytest.raises(FdsegError, match=r"file: \w+ cannot write there"), opened(loggers):
        pass


def test_files_that_no_sync_has_written_are_never_removed(live, tmp_path):
    folder = shutil.copytree(live, tmp_path / live.name)
    before = files(tmp_path)
    with pytest.raises(FdsegError, match=f"{live.name}: holds other files"):
        run(tmp_path, f"output={tmp_path}")
    after = files(tmp_path)
    del after[tmp_path / runs.LOCK]  # of the sync itself
    assert after == before
    assert runs.read_result(folder)


def test_a_logger_is_closed_whatever_happens_and_wandbs_errors_are_told():
    logger = Logger()
    with pytest.raises(ZeroDivisionError), opened([logger]):
        raise ZeroDivisionError
    assert logger.calls == ["finish 1", "failed"]
    logger = Logger()
    with opened([logger]):
        pass
    assert logger.calls == ["finish 0", "success"]
    with pytest.raises(FdsegError, match=r"W&B: the server is away\. .*fdseg\.sync"), opened([]):
        raise wandb.errors.CommError("the server is away.\nmore")


class Logger:
    """As W&B's, but it only notes how it ends."""

    save_dir = log_table = None

    def __init__(self):
        self.calls, self.experiment = [], self

    def finish(self, exit_code):
        self.calls.append(f"finish {exit_code}")

    def finalize(self, status):
        self.calls.append(status)


def test_without_a_login_going_online_is_an_error_and_asks_nothing(tmp_path):
    Grid(tmp_path, "heart").add()
    keys, terminal = pty.openpty()  # W&B would ask on one
    status = online(tmp_path, {}, stdin=terminal, stderr=terminal).returncode
    os.close(terminal)
    said = os.read(keys, 100_000).decode()
    os.close(keys)
    assert status == 2, said
    assert "error: W&B: No API key configured. Use `wandb login` to log in." in said
    assert "Traceback" not in said
    assert not list(tmp_path.glob("dashboards/**/wandb"))


def test_online_a_server_gets_the_run_under_its_own_id_from_the_first_line_on(live, tmp_path):
    shutil.copytree(live, tmp_path / live.name)
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        server.bodies = []
        threading.Thread(target=server.serve_forever).start()
        address = f"http://127.0.0.1:{server.server_port}"
        ended = online(
            tmp_path, {"WANDB_BASE_URL": address, "WANDB_API_KEY": "0" * 40},
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        server.shutdown()
    assert ended.returncode == 0, ended.stderr
    queries = [body for path, body in server.bodies if path == "/graphql"]
    made = [q["variables"] for q in queries if "mutation UpsertBucket" in q["query"]]
    assert {variables["name"] for variables in made} == {live.name[-8:]}
    assert made[0]["groupName"] == "hippocampus-phantom-n2"
    assert not any("RunResumeStatus" in q["query"] for q in queries)  # it would be continued
    history = [
        body["files"]["wandb-history.jsonl"] for path, body in server.bodies
        if path.endswith("/file_stream") and "wandb-history.jsonl" in body.get("files", {})
    ]  # fmt: skip
    assert history[0]["offset"] == 0
    lines = [json.loads(line) for part in history for line in part["content"]]
    assert [line["train/loss"] for line in lines if "train/loss" in line] == pytest.approx(
        [float(row["train_loss"]) for row in table(live / "history.csv")]
    )


@pytest.mark.slow
def test_a_server_that_goes_away_while_a_run_trains_costs_it_nothing(tmp_path):
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        server.bodies = []
        threading.Thread(target=server.serve_forever).start()
        address = f"http://127.0.0.1:{server.server_port}"
        credentials = {"WANDB_BASE_URL": address, "WANDB_API_KEY": "0" * 40}
        threading.Thread(target=leave, args=[server]).start()
        ended = online(
            tmp_path, credentials | {"WANDB_FINISH_TIMEOUT": "3"}, "train", *TINY,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    (folder,) = (path.parent for path in tmp_path.rglob("result.json"))
    assert runs.read_result(folder)
    assert not (folder / "failure.json").exists()
    (said,) = (line for line in ended.stderr.splitlines() if "warning: " in line)
    assert "warning: W&B: " in said
    assert "python -m fdseg.sync shows it once it is done" in said


def leave(server):
    """Stop answering once the run has sent something."""
    while not any(path.endswith("/file_stream") for path, _ in server.bodies):
        time.sleep(0.1)
    server.shutdown()
    server.server_close()


def online(root, credentials, command="sync", *words, **options):
    """A command, in a process that finds no other credentials."""
    return subprocess.run(
        [sys.executable, "-m", f"fdseg.{command}", f"runs={root}", "logger=wandb",
         "logger.wandb.offline=false", *words],
        stdout=subprocess.PIPE, timeout=300, check=False, **options,
        env={
            **{name: value for name, value in os.environ.items() if "WANDB" not in name},
            **credentials,
            "PYTHONPATH": str(Path(fdseg.__file__).parents[1]),
            "NETRC": str(root / "netrc"), "WANDB_CONFIG_DIR": str(root / "wandb-settings"),
        },
    )  # fmt: skip


class Server(BaseHTTPRequestHandler):
    """Answers as W&B's server, as far as a run needs it, and keeps what it is told."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = {}
        if self.path == "/graphql" or self.path.endswith("/file_stream"):
            if self.headers["Content-Encoding"] == "gzip":
                body = gzip.decompress(body)
            self.server.bodies.append((self.path, json.loads(body)))
        if self.path == "/graphql":
            answer = {"data": self.data(**json.loads(body))}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    do_PUT = do_POST

    def data(self, query, variables=None, **_):
        project = {"name": "fdseg", "entity": {"name": "me"}}
        if "upsertBucket" in query:
            bucket = {"id": "x", "name": variables["name"], "project": project}
            return {"upsertBucket": {"bucket": bucket, "inserted": True}}
        if "createRunFiles" in query:
            address = f"http://127.0.0.1:{self.server.server_port}/put"
            files = [
                {"name": name, "uploadUrl": f"{address}/{name}"} for name in variables["files"]
            ]
            return {"createRunFiles": {"runID": "x", "uploadHeaders": [], "files": files}}
        if "createArtifact(" in query:
            sequence = {"id": "x", "latestArtifact": None}
            artifact = {"id": "x", "state": "COMMITTED", "artifactSequence": sequence}
            return {"createArtifact": {"artifact": artifact}}
        viewer = {"id": "x", "entity": "me", "username": "me", "email": "", "flags": "{}",
                  "teams": {"edges": []}}  # fmt: skip
        return {"viewer": viewer, "project": None}

    def log_message(self, *_):
        pass
