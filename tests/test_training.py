"""The engine of gradient descent: what it hears, what stops it, what it keeps."""

import copy
import io
import os
import pickle
import signal
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partialmethod
from types import FunctionType

import joblib
import numpy as np
import pytest
import torch
from estimators import rows, thorough
from sklearn.model_selection import GridSearchCV
from skorch import NeuralNet, callbacks
from skorch.callbacks import Callback, EarlyStopping
from torch import nn

from skgen import SGDGaussianMixture
from skgen.neural._batches import Batches
from skgen.neural._build import build_net
from skgen.neural._model import _same
from skgen.neural._net import LossModule, StopTraining
from skgen.neural._noise import OwnNoise
from skgen.neural._schedule import Plateau

# Fits of a few epochs: whether they converge is not asked here.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X = rows(200, 2)
HOOKS = "train_begin train_end epoch_begin epoch_end batch_begin batch_end".split()


class At(Callback):
    """Call `act` at the n-th call of a hook, or at each."""

    def __init__(self, hook, act, time="each"):
        self.hook, self.act, self.time = hook, act, time

    def initialize(self):
        self.calls_ = 0
        return self

    def called(self, hook, net, **kwargs):
        self.calls_ += hook == self.hook
        if hook == self.hook and self.time in ("each", self.calls_):
            self.act(net, **kwargs)


for _hook in [*HOOKS, "grad_computed"]:
    setattr(At, f"on_{_hook}", partialmethod(At.called, _hook))


def throw(error):
    def act(net, **kwargs):
        raise error

    return act


def poison(net, named_parameters, **kwargs):
    for _, parameter in named_parameters:
        parameter.grad.fill_(torch.nan)


def model(*net_callbacks, **params):
    params = {"n_components": 2, "max_epochs": 3, "random_state": 0, **params}
    return SGDGaussianMixture(net_callbacks=list(net_callbacks), **params)


# All epochs of a fit; where rows are held out, the last are over all of them.
LAST = model()._n_fit_tasks
EPOCHS = [(1, True), (2, True), *(thorough(n, True) for n in range(3, LAST))]
EPOCHS += [(LAST, True), *(thorough(epoch, False) for epoch in (1, 2, 3))]


def state(mixture):
    """Return all that a fit learned, so that it can be compared."""
    arrays = mixture.weights_, mixture.means_, mixture.covariances_
    moments = mixture.net_.optimizer_.state_dict()["state"].values()
    tensors = [*mixture.net_.module_.state_dict().values()]
    tensors += [value for one in moments for value in one.values()]
    learned = [array.tobytes() for array in (*arrays, *(t.numpy() for t in tensors))]
    losses = [[epoch["train"] for epoch in mixture.history_]]
    return learned, losses, len(mixture.net_.history), mixture.net_.n_steps_


@cache
@cache
def n_batches(early_stopping):
    net = model(early_stopping=early_stopping).fit(X).net_
    return [epoch["train_batch_count"] for epoch in net.history]


def python(code, **options):
    """Run code in another process; return the words that it prints."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, stdout=-1, text=True, **options).stdout.split()


# -- history, batches, held-out rows -----------------------------------------------


@pytest.mark.process
def test_importing_skgen_imports_no_torch():
    code = "import skgen, sys; print({'torch', 'skorch'} & set(sys.modules))"
    assert python(code) == ["set()"]


@pytest.mark.parametrize("early_stopping", [True, False])
def test_the_history_holds_four_numbers_for_each_epoch(early_stopping):
    history = model(early_stopping=early_stopping).fit(X).history_
    assert {*history[0]} == {"epoch", "train", "validation", "seconds"}
    assert [epoch["epoch"] for epoch in history] == list(range(1, len(history) + 1))
    assert all(epoch["seconds"] > 0 and epoch["train"] > 0 for epoch in history)
    watched = [np.isfinite(epoch["validation"]) for epoch in history[:3]]
    assert watched == [early_stopping] * 3


def test_batches_leave_nothing_behind():
    mixture = model(callbacks.GradientNormClipping(1.0))  # listens to batches
    sizes = [len(pickle.dumps(mixture.partial_fit(X))) for _ in range(20)]
    assert (sizes[-1] - sizes[0]) / 19 < 500  # bytes a block
    assert max(len(epoch["batches"]) for epoch in mixture.net_.history) <= 1


@pytest.mark.parametrize("batch_size", [1, 7, 64, 199, 200, 10**6])
def test_batches_are_slices_of_one_size_give_or_take_a_row(batch_size):
    table = torch.arange(200.0)[:, None]
    for batch in Batches(table, batch_size, table.device):
        assert batch.untyped_storage().data_ptr() == table.untyped_storage().data_ptr()
    shuffled = Batches(table, batch_size, table.device, torch.Generator())
    sizes = [len(batch) for batch in shuffled]
    assert max(sizes) - 1 <= min(sizes) <= max(sizes) <= batch_size
    first, second = torch.cat(list(shuffled)), torch.cat(list(shuffled))
    assert not torch.equal(first, second)
    assert torch.equal(first.sort(dim=0).values, table)


def test_held_out_rows_are_random_and_never_a_fold():
    def held_out(seed):
        def note(net, dataset_train, dataset_valid, **kwargs):
            table = torch.cat([dataset_train, dataset_valid])[:, 0]
            ranks.append(table.argsort().argsort()[len(dataset_train) :].tolist())

        ranks, line = [], np.linspace(0, 1, 100)[:, None]
        model(At("epoch_begin", note, 1), random_state=seed).fit(line)
        return sorted(ranks[0])

    assert held_out(0) == held_out(0) != held_out(1)
    assert len(held_out(0)) == 10
    assert max(np.diff(held_out(0))) > 1


# -- precision and chance ----------------------------------------------------------


def test_training_is_in_float32_and_answers_are_in_float64():
    kinds = set()
    note = At("batch_begin", lambda net, batch, **kw: kinds.add(batch[0].dtype))
    mixture = model(note).fit(X)
    kinds |= {p.dtype for p in mixture.net_.module_.parameters()}
    assert kinds == {torch.float32}
    answers = mixture.score_samples(X), mixture.transform(X), mixture.covariances_
    assert {answer.dtype for answer in answers} == {np.dtype(np.float64)}


def test_the_seed_decides_every_bit_whatever_the_settings_of_torch():
    expected = state(model().fit(X))
    assert state(model(random_state=1).fit(X)) != expected
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            assert state(model().fit(X)) == expected
    finally:
        torch.set_default_dtype(torch.float32)


def test_fits_in_threads_leave_the_generator_of_torch_as_it_was():
    before = torch.random.get_rng_state()
    with ThreadPoolExecutor(4) as threads:
        fits = threads.map(lambda _: state(model().fit(X)), range(4))
    assert list(fits) == [state(model().fit(X))] * 4
    assert torch.equal(before, torch.random.get_rng_state())


def drawn():
    """Return what PyTorch draws in many ways, one tensor after another."""
    layers = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.3), nn.LSTM(8, 4)).train()
    y = layers(torch.randn(5, 3))[0]
    nn.init.orthogonal_(layers[0].weight)
    nn.functional.dropout(y, 0.5, inplace=False)
    return [
        y,
        layers[0].weight,
        *(torch.rand(3), torch.randint(9, (4,)), torch.randint(2, 9, (4,))),
        *(torch.rand_like(y), torch.randn_like(y), torch.randint_like(y, 2, 9)),
        *(torch.randperm(6), torch.normal(0.0, torch.ones(3)), torch.poisson(y.abs())),
        *(torch.native_dropout(y, 0.4, True)[0], nn.functional.gumbel_softmax(y)),
        *(torch.multinomial(torch.ones(5), 3), torch.empty(3).exponential_()),
        torch.distributions.Gamma(2.0, 1.0).sample((3,)),
        nn.functional.scaled_dot_product_attention(*[y[None]] * 3, dropout_p=0.5),
        torch.rand(2, generator=torch.Generator().manual_seed(3)),
    ]


def test_own_noise_is_the_noise_of_a_seed_and_leaves_the_global_generator():
    with torch.random.fork_rng():
        torch.manual_seed(7)
        expected = drawn()
    before = torch.random.get_rng_state()
    with OwnNoise(7) as noise:
        found = drawn()
    assert torch.equal(before, torch.random.get_rng_state())
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    # What has a generator of its own is not counted.
    n_drawn = noise.n_drawn
    with noise:
        torch.rand(2, generator=torch.Generator())
        torch.nn.Linear(2, 2, device="meta")
    assert noise.n_drawn - n_drawn == 2  # weights and biases


class Langevin(torch.optim.SGD):
    def step(self, closure=None):
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.add_(1e-3 * torch.randn_like(parameter))
        return super().step(closure)


class Draws(Callback):
    def on_epoch_end(self, net, **kwargs):
        net.history.record("drawn", torch.rand(()).item())


def test_callbacks_and_optimisers_of_the_user_draw_by_random_state():
    def fit(seed):
        mixture = model(Draws(), optimizer=Langevin, lr=1e-3, random_state=seed)
        mixture.fit(X)
        return state(mixture), mixture.net_.history[:, "drawn"]

    before = torch.random.get_rng_state()
    assert fit(0) == fit(0)
    assert fit(0)[1] != fit(1)[1]
    assert torch.equal(before, torch.random.get_rng_state())


# -- going on ----------------------------------------------------------------------


def test_a_warm_start_goes_on_and_a_cold_one_starts_afresh():
    mixture = model(warm_start=True).fit(X)
    first, n = state(mixture), mixture.n_iter_
    assert mixture.fit(X).n_iter_ == 2 * n
    assert state(mixture.set_params(warm_start=False).fit(X)) == first


def test_a_warm_start_takes_the_parameters_that_were_set_since():
    mixture = model(warm_start=True).fit(X)
    # Nothing falls by so much: each level lasts one epoch.
    mixture.set_params(tol=1e9, n_iter_no_change=1, max_epochs=50)
    assert mixture.fit(X).n_iter_ < 15


def test_partial_fit_takes_one_pass_and_goes_on():
    mixture = model().partial_fit(X[:100])
    for n, block in enumerate((X[100:], X[:1], X), 2):
        assert mixture.partial_fit(block).n_iter_ == n
    assert state(mixture.fit(X)) == state(model().fit(X))


def test_a_block_of_one_row_moves_a_model_by_no_more_than_a_step():
    mixture = model(n_components=3).fit(X)
    before = mixture.means_
    for row in X[:4]:
        mixture.partial_fit(row[None])
    assert np.abs(mixture.means_ - before).max() < 0.5 * X.std()


# -- what stops a fit, and what is left --------------------------------------------


@pytest.mark.parametrize("act", [throw(KeyboardInterrupt), poison])
@pytest.mark.parametrize("when", ["first", "last"])
@pytest.mark.parametrize(("epoch", "early_stopping"), EPOCHS)
def test_ctrl_c_or_a_nan_leaves_the_last_good_epoch(epoch, early_stopping, act, when):
    counts = n_batches(early_stopping)
    step = sum(counts[: epoch - 1]) + (1 if when == "first" else counts[epoch - 1])
    bad = At("grad_computed", act, step)
    kept = {}
    note = At("epoch_end", lambda net, **_: kept.update({net.n_steps_: net.snapshot()}))
    mixture = model(note, bad, early_stopping=early_stopping, warm_start=True)
    unfitted = dict(vars(mixture))
    # A fault in the last step of an epoch may show in the next one only.
    message = rf"^$|in epoch [{epoch}{epoch + 1}]\b.*'lr' parameter"
    with pytest.raises((KeyboardInterrupt, FloatingPointError), match=message):
        mixture.fit(X)
    if epoch == 1:
        assert vars(mixture) == unfitted
        return
    assert len(mixture.history_) == len(mixture.net_.history) == epoch - 1
    for name, value in mixture.net_.module_.state_dict().items():
        assert torch.equal(value, kept[sum(counts[: epoch - 1])][name])
    assert np.isfinite(mixture.score(X))
    assert mixture.fit(X).n_iter_ > epoch


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("act", [throw(KeyboardInterrupt), throw(OSError), poison])
def test_a_first_epoch_that_fails_leaves_what_was_fitted(act, method):
    mixture = model(warm_start=True).fit(X)
    before, bad = state(mixture), At("grad_computed", act, 5).initialize()
    mixture.net_.callbacks_.append(("bad", bad))
    with pytest.raises((KeyboardInterrupt, OSError, FloatingPointError)):
        getattr(mixture, method)(X)
    assert state(mixture) == before


@pytest.mark.thorough
@pytest.mark.parametrize(
    "hook", [hook if hook.endswith("end") else thorough(hook) for hook in HOOKS]
)
def test_a_callback_that_fails_leaves_what_was_fitted(hook):
    calls = []
    model(At(hook, lambda net, **kwargs: calls.append(1))).fit(X)
    for time in (1, 1 + len(calls) // 2, len(calls)):
        fresh, warm = model(At(hook, throw(OSError), time)), model(warm_start=True)
        unfitted, before = dict(vars(fresh)), state(warm.fit(X))
        warm.net_.callbacks_.append(
            ("bad", At(hook, throw(OSError), time).initialize())
        )
        for mixture in (fresh, warm):
            with pytest.raises(OSError, match=r"^$"):
                mixture.fit(X)
        assert vars(fresh) == unfitted
        assert state(warm) == before


def test_a_warning_made_an_error_leaves_what_was_fitted():
    mixture = model(warm_start=True, max_epochs=1).fit(X)
    before = state(mixture)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="did not converge"):
            mixture.fit(X)
    assert state(mixture) == before


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical", "lowrank"])
def test_steps_that_are_far_too_long_are_named(kind):
    with pytest.raises(FloatingPointError, match=r"in epoch \d+.*'lr' parameter"):
        model(covariance_type=kind, lr=1e20).fit(X)


@pytest.mark.process
def test_a_real_ctrl_c_ends_the_fit():
    code = """
import signal, numpy as np, skgen
from skorch.callbacks import Callback
# A process in the background of a shell ignores the signal, and so would this one.
signal.signal(signal.SIGINT, signal.default_int_handler)
class Say(Callback):
    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 3:
            print("third", flush=True)
X = np.random.RandomState(0).normal(size=(500, 2))
mixture = skgen.SGDGaussianMixture(2, max_epochs=10**6, tol=0, n_iter_no_change=10**6)
try:
    mixture.set_params(net_callbacks=[Say()]).fit(X)
except KeyboardInterrupt:
    print(len(mixture.history_) >= 3, np.isfinite(mixture.score(X)))
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=-1, text=True) as run:
        assert run.stdout.readline() == "third\n"
        run.send_signal(signal.SIGINT)
        try:
            assert run.communicate(timeout=60)[0] == "True True\n"
        finally:
            run.kill()


@pytest.mark.parametrize("params", [{}, {"patience": 1, "threshold": 1.0}])
def test_early_stopping_of_skorch_ends_a_fit_quietly(params, capsys):
    mixture = model(EarlyStopping(**params)).fit(X)
    assert (mixture.n_iter_ == 2) == bool(params)
    assert capsys.readouterr().out == ""


# -- callbacks and optimisers ------------------------------------------------------


class Progress:
    """A callback of scikit-learn that asks to stop after some epochs."""

    def __init__(self, last):
        self.last, self.names = last, []

    def setup(self, estimator, context):
        pass

    on_fit_task_begin = teardown = setup

    def on_fit_task_end(self, estimator, context):
        self.names.append(context.task_name)
        return len(self.names) == self.last


@pytest.mark.parametrize("last", [None, 2])
def test_each_epoch_is_a_subtask_and_a_request_to_stop_is_heard(last):
    progress = Progress(last)
    n = model().set_callbacks(progress).fit(X).n_iter_
    assert progress.names == ["epoch"] * n + ["fit"]
    assert n == last or last is None


def test_callbacks_are_copied_at_each_fit():
    callback = EarlyStopping("train_loss", patience=2)
    before, mixture = dict(vars(callback)), model(callback)
    fitted = [dict(mixture.fit(X).net_.callbacks_)["EarlyStopping"] for _ in range(2)]
    assert mixture.net_callbacks[0] is callback
    assert vars(callback) == before
    assert len({id(one) for one in [callback, *fitted]}) == 3


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("GradientNormClipping", {"gradient_clip_value": 0.1}),
        ("LRScheduler", {"policy": "StepLR", "step_size": 9, "step_every": "batch"}),
        ("Checkpoint", {}),
        ("Checkpoint", {"monitor": "train_loss_best"}),
        ("PrintLog", {"sink": len}),
        ("ProgressBar", {}),
        ("EpochScoring", {"scoring": lambda net, X, y: 1.0, "on_train": True}),
    ],
)
def test_callbacks_of_skorch_work(name, params, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = getattr(callbacks, name)(**params)
    assert np.isfinite(model(made, optimizer="sgd").fit(X).score(X))


@pytest.mark.parametrize("every", ["epoch", "batch"])
def test_a_schedule_of_skorch_decides_the_learning_rate(every):
    rates = []
    rate = lambda net, **_: rates.append(net.optimizer_.param_groups[0]["lr"])  # noqa: E731
    schedule = callbacks.LRScheduler(
        "StepLR", step_size=1, gamma=1e-4, step_every=every
    )
    model(At("batch_begin", rate), schedule, early_stopping=False).fit(X)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 1e-6 * rates[0]


class Plain(torch.optim.SGD):
    def step(self):
        super().step()


@pytest.mark.parametrize("name", ["Adam", "AdamW", "RMSprop", "SGD", "RAdam", Plain])
def test_optimisers_and_their_parameters_reach_skorch(name):
    optimizer = name if name is Plain else getattr(torch.optim, name)
    given = name.lower() if name in ("Adam", "AdamW", "RMSprop", "SGD") else optimizer
    params = {"optimizer__weight_decay": 0.1}
    net = model(optimizer=given, net_params=params).fit(X).net_
    assert isinstance(net, NeuralNet)
    assert type(net.optimizer_) is optimizer
    assert net.optimizer_.param_groups[0]["weight_decay"] == 0.1


def test_an_optimiser_that_needs_a_closure_gets_it():
    losses = []
    note = At("grad_computed", lambda net, **kwargs: losses.append(1))
    mixture = model(note, optimizer=torch.optim.LBFGS, lr=0.1, batch_size=200).fit(X)
    assert len(losses) > mixture.net_.n_steps_
    assert mixture.history_[-1]["train"] < mixture.history_[0]["train"]


# -- parameters --------------------------------------------------------------------

KEYS = (
    "module criterion train_split warm_start callbacks optimizer lr batch_size device "
    "max_epochs nope optimizer__nope module__nope optimizer__lr callbacks__schedule"
)
BAD = {
    "lr": [0, -1, np.nan, np.inf, "x", True, None],
    "batch_size": [0, 1.5, "all", None, True],
    "max_epochs": [0, 1.5, "all", None],
    "early_stopping": [1],
    "warm_start": ["yes"],
    "validation_fraction": [0, 1, 1.5, "x", 0.999],  # the last leaves no row
    "optimizer": ["nadam", None, torch.nn.Linear, torch.optim.Optimizer],
    "device": ["tpu", "cuda:99", None, torch.device("cpu")],
    "net_callbacks": [
        *("print", EarlyStopping(), [1], [None], [(1, EarlyStopping())]),
        [callbacks.EpochScoring],  # a class that cannot be made without arguments
        [("one", EarlyStopping()), ("one", EarlyStopping())],
        [("schedule", EarlyStopping())],
    ],
    "net_params": [3, {1: 2}, *({key: 0.1} for key in KEYS.split())],
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n in BAD for v in BAD[n]])
def test_bad_parameters_are_named(name, value):
    message = rf"(?s)The '{name}' parameter of SGDGaussianMixture must be .*Got .* inst"
    with pytest.raises(ValueError, match=message):
        model().set_params(**{name: value}).fit(X)


# -- pickles and processes ---------------------------------------------------------


class Tensors(pickle.Pickler):
    """Note the tensors of the model that skorch does not map to a CPU at loading."""

    def reducer_override(self, value):
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            self.found.append(value)
        return (str, ()) if isinstance(value, FunctionType) else NotImplemented


@pytest.mark.parametrize("error", [KeyboardInterrupt, None])
def test_a_pickle_holds_no_tensor_that_needs_its_device(error):
    mixture = model(*([At("epoch_begin", throw(error), 3)] if error else []))
    try:
        mixture.fit(X)
    except KeyboardInterrupt:
        assert error
    pickler = Tensors(io.BytesIO())
    pickler.found = []
    pickler.dump(mixture.set_params(net_callbacks=None))
    assert pickler.found == []


@pytest.mark.parametrize("copied", [lambda m: pickle.loads(pickle.dumps(m)), copy.copy])
def test_a_copy_goes_on_as_the_original_would(copied):
    mixture = model(callbacks.GradientNormClipping(1.0), warm_start=True).fit(X)
    before, other = state(mixture), copied(copy.deepcopy(mixture))
    assert state(other) == before
    other.fit(X).partial_fit(X[:50])
    assert state(mixture) == before
    assert state(mixture.fit(X).partial_fit(X[:50])) == state(other)


@pytest.mark.parametrize(
    "backend", [pytest.param("loky", marks=pytest.mark.process), "threading"]
)
def test_a_search_takes_no_more_threads_than_cores(backend, monkeypatch):
    class Threads(Callback):  # in here, it travels to processes by value
        def on_epoch_end(self, net, **kwargs):
            net.history.record("threads", torch.get_num_threads())

    def threads(mixture, X, y=None):
        return mixture.net_.history[-1]["threads"]

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    table, before = rows(3200, 40), torch.get_num_threads()
    mixture = model(Threads(), n_components=4, max_epochs=1, early_stopping=False)
    mixture.set_params(batch_size=3200, init_params="random_from_data")
    grid = GridSearchCV(mixture, {"lr": [0.01]}, scoring=threads, cv=2, n_jobs=2)
    torch.set_num_threads(2)
    try:
        assert threads(mixture.fit(table), table) == 2  # alone, it takes both
        with joblib.parallel_config(backend):
            most = grid.set_params(refit=False).fit(table).cv_results_
    finally:
        torch.set_num_threads(before)
    fair = 1 if backend == "threading" else max(1, joblib.cpu_count() // 2)
    assert most["mean_test_score"].max() <= fair


# -- with a GPU --------------------------------------------------------------------


def on_a_gpu(test):
    skip = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
    return pytest.mark.gpu(skip(test))


@on_a_gpu
@pytest.mark.parametrize("device", ["cuda", "cuda:0", "auto"])
def test_a_gpu_finds_what_a_cpu_finds(device):
    here, there = model().fit(X), model(device=device).fit(X)
    assert next(there.net_.module_.parameters()).is_cuda
    for name in ("weights_", "means_", "covariances_"):
        expected, found = getattr(here, name), getattr(there, name)
        np.testing.assert_allclose(found, expected, rtol=1e-2, atol=1e-3)


@on_a_gpu
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_fit_leaves_the_generators_of_gpus_as_they_were(device):
    before = torch.cuda.get_rng_state_all()
    model(device=device).fit(X)
    assert all(map(torch.equal, before, torch.cuda.get_rng_state_all()))


@on_a_gpu
def test_a_pickle_of_a_gpu_answers_without_one(tmp_path, monkeypatch):
    mixture = model(device="cuda").fit(X)
    (tmp_path / "model").write_bytes(pickle.dumps((mixture, X)))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    code = """
import pickle
mixture, X = pickle.load(open("model", "rb"))
print(mixture.score(X).hex(), mixture.set_params(device="cpu").partial_fit(X).n_iter_)
"""
    n = str(mixture.n_iter_ + 1)
    assert python(code, cwd=tmp_path, env=os.environ) == [mixture.score(X).hex(), n]


# -- what planted faults showed to be untested ---------------------------------------


@pytest.mark.parametrize("size", [1, 3, 4, 7])
def test_the_mean_over_batches_is_that_over_rows(size):
    values = torch.arange(7.0)[:, None] ** 2
    batches = Batches(values, size, values.device)
    found = batches.mean([batch.mean() for batch in batches])
    assert found == pytest.approx(float(values.mean()), rel=1e-6)


def test_batches_that_are_gathered_in_groups_hold_each_row_once():
    wide = torch.arange(100.0)[:, None].expand(100, 30_000)
    shuffled = Batches(wide, 7, wide.device, torch.Generator())
    found = torch.cat([batch[:, 0] for batch in shuffled])
    assert torch.equal(found.sort().values, wide[:, 0])


class Distance(LossModule):
    """The mean distance of rows to a point, and what it has seen."""

    def __init__(self, d):
        super().__init__()
        self.point = torch.nn.Parameter(torch.zeros(d))
        self.seen = []

    def forward(self, x):
        if self.training:
            self.seen.append(x)
        return ((x - self.point).square().sum(1) + self.point.sum() ** 4).mean()


def net(lr=0.01, batch_size=16, **params):
    """Return a net that trains a `Distance` in two dimensions by plain descent."""
    estimator = model(optimizer="sgd", lr=lr, **params)
    generator = torch.Generator().manual_seed(0)
    made = build_net(estimator, Distance(2), [], batch_size, generator)
    made.set_rate(lr)
    made.streams_ = False
    return made


TABLE = torch.from_numpy(X).float()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_engine_takes_the_steps_of_a_loop_by_hand(momentum):
    trained = net(net_params={"optimizer__momentum": momentum})
    trained.train(TABLE, None, 3)
    module = trained.module_
    assert len(module.seen) == 3 * -(-len(X) // 16)
    point, velocity = torch.zeros(2), torch.zeros(2)
    for batch in module.seen:
        gradient = 2 * (point - batch).mean(0) + 4 * point.sum() ** 3
        velocity = momentum * velocity + gradient
        point = point - 0.01 * velocity
    torch.testing.assert_close(module.point.detach(), point, rtol=1e-4, atol=1e-5)


def test_each_epoch_takes_the_rows_in_an_order_of_its_own():
    trained = net()
    trained.train(TABLE, None, 2)
    trained.train(TABLE, None, 1)  # as a warm start does
    seen = torch.cat(trained.module_.seen).view(3, *TABLE.shape)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not torch.equal(seen[one], seen[other])
    for epoch in seen:
        assert torch.equal(epoch.sort(dim=0).values, TABLE.sort(dim=0).values)


def test_a_snapshot_stays_what_it_was():
    trained = net()
    trained.train(TABLE, None, 1)
    snapshot, before = trained.snapshot(), trained.module_.point.detach().clone()
    trained.train(TABLE, None, 1)
    assert not torch.equal(trained.module_.point, before)
    trained.restore(snapshot)
    assert torch.equal(trained.module_.point, before)


def rate_after(trained, n_steps):
    trained.n_steps_ = n_steps
    trained._lower_rate()
    return trained.optimizer_.param_groups[0]["lr"]


def test_the_learning_rate_halves_after_its_half_life():
    trained = net()
    trained.set_rate(0.4, half_life=50)
    rates = [rate_after(trained, n) for n in (0, 50, 1000)]
    np.testing.assert_allclose(rates, [0.4, 0.2, 0.4 / np.sqrt(61)])


def test_the_learning_rate_falls_along_half_a_cosine_from_its_first_step():
    trained = net()
    trained.n_steps_ = 300  # of an earlier fit
    trained.set_rate(0.4, n_steps=60)
    rates = [rate_after(trained, n) for n in (300, 330, 345, 360, 500)]
    expected = [0.4, 0.2, 0.2 - 0.2 * np.sqrt(0.5), 4e-4, 4e-4]
    np.testing.assert_allclose(rates, expected)


class Script:
    """Stands for a net whose losses are known."""

    held_out_ = "held-out rows"
    streams_ = False
    rate_, half_life_ = 1.0, None

    def __init__(self, losses):
        self.losses, self.restored, self.epoch = losses, None, 0

    def mean_loss(self, rows):
        return self.losses[0]

    def snapshot(self):
        return self.epoch

    def restore(self, snapshot):
        self.restored = snapshot

    def set_rate(self, rate, half_life):
        self.rate_, self.half_life_ = rate, half_life

    def run(self, schedule):
        """Return the number of epochs, of which loss 0 is that of the start."""
        schedule.on_train_begin(self, X=TABLE)
        try:
            for epoch in range(1, len(self.losses)):
                self.epoch, self.history = epoch, [{"valid_loss": self.losses[epoch]}]
                schedule.on_epoch_end(self)
        except StopTraining:
            pass
        schedule.on_train_end(self)
        return self.epoch


def test_patience_counts_epochs_and_keeps_the_best():
    script = Script([9.0, 3.0, 2.0, 2.5, 2.4, 1.0])
    schedule = Plateau(0, 2, n_levels=1, watches_training=False)
    assert script.run(schedule) == 4
    assert script.restored == 2


def test_patience_is_for_held_out_rows_alone():
    script = Script([9.0, 3.0, 2.0, 2.5, 2.4, 1.0])
    script.held_out_ = None
    schedule = Plateau(0, 2, n_levels=1, watches_training=False)
    assert script.run(schedule) == 5
    assert script.restored is None


def test_a_plateau_lowers_the_rate_and_goes_back_to_the_best():
    # A fall of less than tol ends a level too, but its weights are the best.
    script = Script([9.0, 3.0, 2.0, 1.95, 2.05, 1.0, 1.2, 1.2, 0.0])
    schedule = Plateau(tol=0.1, patience=2, n_levels=2, factor=0.2)
    assert script.run(schedule) == 7
    assert schedule.converged_
    assert script.rate_ == pytest.approx(0.2)
    assert script.restored == 5


def test_each_block_of_a_stream_has_noise_of_its_own():
    seeds = []
    note = At(
        "train_begin",
        lambda net, **_: seeds.append(net.module_.generator.initial_seed()),
    )
    mixture = model(note).partial_fit(X[:100])
    mixture.partial_fit(X[100:]).partial_fit(X[:50])
    assert len(set(seeds)) == 3


def test_parameters_are_the_same_where_they_are_equal():
    assert _same((6,), [6])
    assert _same({"a": np.ones(2)}, {"a": np.ones(2)})
    assert not _same((6,), (6, 4))
    assert not _same({"a": 1}, {"a": 2})


def test_the_betas_of_the_user_precede_those_of_the_model():
    def betas(**params):
        return model(**params).fit(X[:50]).net_.optimizer_.param_groups[0]["betas"]

    assert betas() == (0.9, 0.99)
    assert betas(net_params={"optimizer__betas": (0.5, 0.6)}) == (0.5, 0.6)
