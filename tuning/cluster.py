"""Many processes, one search: KerasTuner's chief and workers, with what they lack. See cluster.md.

What KerasTuner 1.4.8 can't, and how it is mended here:
- a worker that dies keeps its trial for ever, and the chief waits for it: a heartbeat and a lease;
- a chief that restarts gives out trials that its workers are still running: they keep them;
- a worker dies of "Socket closed" when the chief goes away during a call: `PatientClient` asks again;
- a worker without a trial asks again at once, thousands of times a second: it waits a second;
- a worker is told to stop while others still run trials, which nobody can take if they die: it waits for their end;
- a chief that restarts does not know who waits for it: it serves for a while, whatever is left to do;
- a trial that was ended twice counts twice: the first end counts;
- an error in the chief's `end_trial` kills one worker after the other: it ends the search;
- a full disk in the chief fails its workers' trials: it ends the chief, and they wait for it as after a kill.
"""

import contextlib
import math
import os
import sys
import threading
import time

from isra_keras.errors import UserError
from isra_keras.training.checkpoint import is_disk_full

LEASE = 60.0
"""Seconds of silence after which a worker's trial is given to another one."""
PATIENCE = 600.0
"""Seconds that a worker waits for a chief that does not answer."""
GRACE = 20.0
"""Seconds that a chief serves on when all is done, for workers that have not heard of it."""
CHANNEL = [("grpc.initial_reconnect_backoff_ms", 200), ("grpc.min_reconnect_backoff_ms", 200),
           ("grpc.max_reconnect_backoff_ms", 2000)]  # fmt: skip


def role():
    """ "chief", "worker" or "alone", by KerasTuner's environment variables.

    Raises:
        UserError: some of them are missing.
    """
    names = ("KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT")
    there = [name for name in names if os.environ.get(name)]
    if not there:
        return "alone"
    if len(there) < len(names):
        missing = ", ".join(name for name in names if name not in there)
        raise UserError(f"Expected all of {', '.join(names)} for a search on many machines; missing: {missing}.")
    return "chief" if "chief" in os.environ[names[0]] else "worker"


def is_chief():
    return role() == "chief"


def is_worker():
    return role() == "worker"


def address():
    """ "127.0.0.1:8765" of the chief."""
    return f"{os.environ['KERASTUNER_ORACLE_IP']}:{os.environ['KERASTUNER_ORACLE_PORT']}"


def patience():
    """Seconds that a worker waits for the chief: `PATIENCE`, or ISRA_TUNE_PATIENCE of the environment.

    Raises:
        UserError: it is no number above 0.
    """
    given = os.environ.get("ISRA_TUNE_PATIENCE", PATIENCE)
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0.0 < seconds < math.inf:
        raise UserError(f"Expected ISRA_TUNE_PATIENCE, seconds that a worker waits for its chief, as a number above 0; received "
                        f"'{given}'.")  # fmt: skip
    return seconds


def is_loopback():
    """Whether the chief only listens to this machine."""
    ip = os.environ["KERASTUNER_ORACLE_IP"]
    return ip in ("localhost", "::1", "[::1]") or ip.startswith("127.")


# -------------------------------------------------------------------- worker


class ChiefGone(Exception):
    """The chief did not answer for `PATIENCE` seconds."""


def PatientClient(oracle):
    """KerasTuner's `OracleClient` of an oracle, with a channel that waits for a chief that restarts."""
    import grpc
    from keras_tuner.src import protos
    from keras_tuner.src.distribute.oracle_client import OracleClient

    class Client(OracleClient):
        def create_trial(self, tuner_id):
            trial = super().create_trial(tuner_id)
            if trial.status == "IDLE":
                time.sleep(1.0)
            return trial

    client = Client(oracle)
    client.stub = _PatientStub(protos.get_service_grpc().OracleStub(grpc.insecure_channel(address(), CHANNEL)))
    return client


class _PatientStub:
    """The same calls, repeated while the chief is away. All of them may be repeated: the chief sees to that."""

    def __init__(self, stub):
        self._stub, self._patience = stub, patience()

    def __getattr__(self, name):
        method = getattr(self._stub, name)
        return lambda request, **options: self._call(method, request)

    def _call(self, method, request):
        import grpc

        ends = time.monotonic() + self._patience
        while True:
            try:
                return method(request, wait_for_ready=True, timeout=min(30.0, self._patience))
            except grpc.RpcError as error:
                code = grpc.StatusCode  # a chief that stops cancels what it is at
                if error.code() not in (code.UNAVAILABLE, code.DEADLINE_EXCEEDED, code.CANCELLED):
                    raise
                if time.monotonic() > ends:
                    raise ChiefGone from error
                time.sleep(0.5)


@contextlib.contextmanager
def open_search(oracle):
    """Around a worker's search: a chief that is gone for good is an error for people."""
    try:
        yield
    except ChiefGone:
        raise UserError(
            f"Expected the chief at {address()}; it did not answer. Start it again, then this worker."
        ) from None


@contextlib.contextmanager
def heartbeat(oracle, trial_id, lease):
    """While it is open, tells the chief every third of the lease that the trial is being worked on."""
    stub = getattr(oracle, "stub", None)
    if stub is None:
        yield
        return
    from keras_tuner.src import protos

    done = threading.Event()

    def beat():
        while not done.wait(lease / 3):
            with contextlib.suppress(Exception):
                stub._stub.GetTrial(protos.get_service().GetTrialRequest(trial_id=trial_id), timeout=lease / 3)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(timeout=lease)


# -------------------------------------------------------------------- chief


def serve(oracle, lease=LEASE, watcher=None):
    """Hands out the trials until all of them have ended, then says so to the workers and returns.

    A chief that goes on with a search serves for `GRACE` seconds at least: workers may wait for it.

    Args:
        oracle: one of `tuning.oracles`.
        lease: seconds of silence that a worker is allowed.
        watcher: told of every trial that begins or ends, or None.

    Raises:
        UserError: the port is taken.
        RuntimeError: KerasTuner's, of too many failed trials in a row.
        Exception: whatever a full disk raised.
    """
    from concurrent import futures

    import grpc
    from keras_tuner.src import protos

    if not is_loopback():
        print(f"warning: anybody who reaches {address()} can take part in this search: gRPC asks for no password. "
              "Use a private network.", file=sys.stderr)  # fmt: skip
    servicer = make_servicer(oracle, watcher)
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=1), options=[("grpc.so_reuseport", 0)])
    protos.get_service_grpc().add_OracleServicer_to_server(servicer, server)
    try:
        bound = server.add_insecure_port(address())
    except RuntimeError:
        bound = 0
    if not bound:
        raise UserError(f"Expected to listen at {address()}; the port is taken or the address is not this machine's.")
    server.start()
    # Workers that wait for a chief that restarts are not known to it: they have so long to ask.
    least = time.monotonic() + GRACE if getattr(oracle, "reloaded", False) else 0.0
    try:
        while not servicer.finished():
            time.sleep(0.2)
            servicer.reap(lease)
        if servicer.full is not None:
            raise servicer.full
        ends = time.monotonic() + GRACE
        while time.monotonic() < (ends if servicer.waiting() else least):
            time.sleep(0.2)
    finally:
        server.stop(grace=2).wait()
    if servicer.failure is not None:
        raise servicer.failure


def make_servicer(oracle, watcher=None):
    """KerasTuner's `OracleServicer` with leases, ends that count once, and a memory of its workers."""
    import grpc
    from keras_tuner.src import protos
    from keras_tuner.src.distribute.oracle_chief import OracleServicer

    states = protos.get_proto().TrialStatus
    STOPPED, IDLE, COMPLETED = states.STOPPED, states.IDLE, states.COMPLETED

    class Servicer(OracleServicer):
        def __init__(self):
            super().__init__(oracle)
            self.lock, self.failure, self.full = threading.RLock(), None, None
            self.seen, self.ended_ids = {}, {"COMPLETED", "FAILED"}
            for tuner_id, trial_id in getattr(oracle, "resumed", {}).items():  # workers that outlived a chief
                oracle.tuner_ids.add(tuner_id)
                if trial_id in oracle._retry_queue:
                    oracle._retry_queue.remove(trial_id)
                    oracle.ongoing_trials[tuner_id] = oracle.trials[trial_id]
                    self.seen[trial_id] = time.monotonic()

        @contextlib.contextmanager
        def writing(self, context):
            """Around what writes: after a full disk, all are told that the chief is away, so that they ask again."""
            with self.lock:
                try:
                    if self.full is None:
                        yield
                        return
                except Exception as error:
                    if not is_disk_full(error):
                        raise
                    self.full = error
                context.abort(grpc.StatusCode.UNAVAILABLE, "the chief's disk is full")

        def CreateTrial(self, request, context):
            with self.writing(context):
                if self.failure is not None:
                    oracle.max_trials = len(oracle.trials)  # says STOPPED
                stopped = self.stop_triggered
                reply = super().CreateTrial(request, context)
                if reply.trial.status == STOPPED and oracle.ongoing_trials and self.failure is None:
                    reply.trial.status = IDLE  # it may have to take the trial of a worker that dies
                    self.stop_triggered = stopped
                    oracle.tuner_ids.add(request.tuner_id)
                self.seen[reply.trial.trial_id] = time.monotonic()
                held = oracle.ongoing_trials.get(request.tuner_id)
            if watcher is not None and held is not None:
                watcher.trial_began(held)
            return reply

        def GetTrial(self, request, context):
            with self.lock:
                self.seen[request.trial_id] = time.monotonic()
                return super().GetTrial(request, context)

        def UpdateTrial(self, request, context):
            with self.writing(context):
                trial = oracle.trials[request.trial_id]
                trial.metrics = type(trial.metrics)()  # a repeated report replaces the first one
                return super().UpdateTrial(request, context)

        def EndTrial(self, request, context):
            trial_id = request.trial.trial_id
            with self.writing(context):
                if oracle.trials[trial_id].status in self.ended_ids:
                    return protos.get_service().EndTrialResponse()
                if trial_id in oracle._retry_queue:
                    oracle._retry_queue.remove(trial_id)
                if request.trial.status == COMPLETED and not self.is_reported(trial_id):
                    self.queue_again(next((k for k, t in oracle.ongoing_trials.items() if t.trial_id == trial_id), None),
                                     trial_id)  # fmt: skip
                    return protos.get_service().EndTrialResponse()
                try:
                    super().EndTrial(request, context)
                except RuntimeError as error:  # the limit of failures in a row; the trial is saved
                    self.failure = error
            if watcher is not None:
                watcher.trial_ended(oracle.trials[trial_id])
            return protos.get_service().EndTrialResponse()

        def reap(self, lease):
            """Puts the trials of silent workers back into the queue."""
            with self.lock:
                now = time.monotonic()
                for tuner_id, trial in list(oracle.ongoing_trials.items()):
                    if now - self.seen.setdefault(trial.trial_id, now) > lease:
                        oracle.tuner_ids.discard(tuner_id)
                        self.queue_again(tuner_id, trial.trial_id)

        def queue_again(self, tuner_id, trial_id):
            """Takes a trial from a worker, for whoever asks next."""
            oracle.ongoing_trials.pop(tuner_id, None)
            oracle._retry_queue.append(trial_id)
            oracle.save()

        def is_reported(self, trial_id):
            """Whether there is a score; the report of a trial is lost with a chief that dies before its end."""
            return oracle.trials[trial_id].metrics.exists(oracle.objective.name)

        def finished(self):
            """Whether nothing is left to do: all given out and ended, or given up."""
            with self.lock:
                if self.full is not None:
                    return True
                if self.failure is not None:
                    return not oracle.ongoing_trials
                idle = not oracle.ongoing_trials and not oracle._retry_queue
                return idle and (oracle.is_spent() or self.stop_triggered)

        def waiting(self):
            """Whether a worker has not yet been told to stop."""
            with self.lock:
                return bool(oracle.tuner_ids)

    return Servicer()
