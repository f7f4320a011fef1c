"""Runs the jobs of a plan, several at once, and goes on where an earlier call was stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from threading import Lock
from typing import Any

from trainer.results.jobs import Command, Job
from utils.errors import Terminated, UserError
from utils.files import to_json, write_errors, write_whole

RECORD, LOG = "job.json", "log.txt"
_ROOT = Path(__file__).resolve().parents[2]


class Running:
    """The jobs of a plan at work.

    Args:
        jobs: each after those that it waits for.
        root: folder of their folders.
        workers: how many at once; each has its share of the processor's cores.
    """

    def __init__(self, jobs: Sequence[Job], root: Path, workers: int) -> None:
        self.jobs, self.root, self.workers = jobs, root, workers
        self.threads = max(1, (os.cpu_count() or 1) // workers)
        self.processes: set[subprocess.Popen[bytes]] = set()
        self.lock = Lock()
        self.stopped = False

    def run(self) -> None:
        """Run what is not done yet.

        Raises:
            UserError: a command failed; the others that were at work have ended, and nothing of theirs is lost.
        """
        records = {job.name: read_record(self.root / job.name) for job in self.jobs}
        waiting = [job for job in self.jobs if "seconds" not in records[job.name]]
        ended = {job.name for job in self.jobs} - {job.name for job in waiting}
        print(f"{len(ended)} of {len(self.jobs)} jobs are done; {self.left(waiting, records)}", flush=True)
        pool = ThreadPoolExecutor(self.workers)
        begun: dict[Future[dict[str, Any]], Job] = {}
        try:
            while waiting or begun:
                for job in [job for job in waiting if ended.issuperset(job.after)]:
                    if len(begun) < self.workers:
                        waiting.remove(job)
                        begun[pool.submit(self._do, job)] = job
                done, _ = wait(begun, return_when=FIRST_COMPLETED)
                for future in done:
                    job = begun.pop(future)
                    record = records[job.name] = future.result()
                    ended.add(job.name)
                    rest = self.left([*waiting, *begun.values()], records)
                    print(f"{job.name}: {record['seconds']:.0f} s; {rest}", flush=True)
        except (KeyboardInterrupt, Terminated) as stopped:
            self.stop()
            raise type(stopped)("what is done is kept; the same command goes on from here") from None
        except BaseException:
            self.stop()
            raise
        finally:
            pool.shutdown()

    def left(self, waiting: Sequence[Job], records: Mapping[str, Mapping[str, Any]]) -> str:
        """How long the rest takes, from the plan's minutes and what the jobs that are done have taken."""
        done = [(job, records[job.name]) for job in self.jobs if "seconds" in records[job.name]]
        planned = sum(job.minutes for job, _ in done)
        pace = sum(record["seconds"] for _, record in done) / 60 / planned if planned else 1.0
        minutes = sum(job.minutes for job in waiting) * pace / self.workers
        return f"about {minutes:.0f} min left" if waiting else "nothing is left"

    def stop(self) -> None:
        """Ask every command at work to save and end."""
        with self.lock:
            self.stopped = True
            for process in self.processes:
                process.send_signal(signal.SIGTERM)

    def _do(self, job: Job) -> dict[str, Any]:
        folder = self.root / job.name
        with write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        # what stopped calls have taken counts too
        record = read_record(folder) or {"commands": [], "so_far": 0.0, "processor_seconds": 0.0}
        try:
            for command in job.commands():
                record["commands"].append(["python", *command])
                self._command(command, folder, record)
            record["seconds"] = record.pop("so_far")
        finally:
            write_whole(folder / RECORD, to_json(record, indent=1) + "\n")
        return record

    def _command(self, command: Command, folder: Path, record: dict[str, Any]) -> None:
        """Run one, and add its seconds, by the clock and of the processor, to the job's."""
        environment = os.environ | {"OMP_NUM_THREADS": str(self.threads)}
        started = time.monotonic()
        with (folder / LOG).open("ab") as log, self.lock:
            if self.stopped:
                raise UserError("stopped")
            # in a session of its own: Ctrl-C reaches this process alone, which asks the others to save
            process = subprocess.Popen(
                [sys.executable, *command],
                cwd=_ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            self.processes.add(process)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        with self.lock:
            self.processes.remove(process)
        record["so_far"] += time.monotonic() - started
        record["processor_seconds"] += usage.ru_utime + usage.ru_stime
        if process.returncode:
            raise UserError(
                f"python {' '.join(command)} ended with status {process.returncode}; see {folder / LOG}. The same "
                "command goes on from here"
            )


def read_record(folder: Path) -> dict[str, Any]:
    """What a job has left; it has `seconds` where the job is done. Empty where there is none."""
    path = folder / RECORD
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); remove the folder to make it anew") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: not a JSON object; remove the folder to make it anew")
    return found
