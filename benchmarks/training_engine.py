"""One epoch of our training engine against skorch, a hand-written loop and pythae.

All train the same net from the same weights, by Adam, on shuffled float32 batches.
"""

import contextlib
import copy
import io
import logging
import sys
import tempfile
from importlib.metadata import version
from itertools import pairwise

import torch
from skorch import NeuralNet

from benchmarks._harness import compare, main
from skgen._torch import threads_for
from skgen.neural import GradientModel
from skgen.neural._build import build_net
from skgen.neural._net import LossModule
from skgen.neural._noise import OwnNoise

_RATE = 1e-3


def rows(pairs, scale=1.0):
    """Yield the rows of the table; `scale` shrinks the work for a smoke test."""
    X = correlated(int(100_000 * scale), 10)
    yield _against_skorch(X, pairs)
    yield _against_hand_loop(X, pairs)
    try:
        import pythae  # noqa: F401 (no dependency of ours)
    except ImportError as error:
        sys.stderr.write(f"{error}: no row. It takes `pip install pythae==0.1.2`\n")
        return
    yield _against_pythae(correlated(int(30_000 * scale), 784), pairs)


def correlated(n, d):
    """Return float32 rows that lie near a subspace of a fifth of the dimensions."""
    generator = torch.Generator().manual_seed(0)
    k = d // 5
    basis = torch.randn(k, d, generator=generator) / k**0.5
    noise = torch.randn(n, d, generator=generator)
    return torch.randn(n, k, generator=generator) @ basis + 0.1 * noise


def layers(*widths):
    """Return linear layers of these widths from one start, ReLU between them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        steps = []
        for inside, outside in pairwise(widths):
            steps += [torch.nn.Linear(inside, outside), torch.nn.ReLU()]
        return torch.nn.Sequential(*steps[:-1])


def squared_error(net, X):
    """Return the mean squared error of a net's reconstruction of rows."""
    return torch.nn.functional.mse_loss(net(X), X)


def summed_error(net, X):
    """Return the squared error, summed over the columns, mean over the rows."""
    return squared_error(net, X) * X.shape[1]


class Autoencoder(LossModule):
    """What our engine trains: a net, and the loss of its reconstruction."""

    def __init__(self, net, loss):
        super().__init__()
        self.net = net
        self.loss = loss

    def forward(self, rows):
        """Return the mean loss of rows."""
        return self.loss(self.net, rows)


class Estimator(GradientModel):
    """What `build_net` reads of an estimator; the class serves, none is made."""

    optimizer = "adam"
    lr = _RATE
    max_epochs = 1
    net_callbacks = None
    net_params = None
    device = "cpu"


def engine(net, loss, batch_size):
    """Return our net, built as an estimator builds it and about to train."""
    module = Autoencoder(copy.deepcopy(net), loss)
    generator = torch.Generator().manual_seed(1)
    built = build_net(Estimator, module, [], batch_size, generator)
    built.set_rate(_RATE)
    built.streams_ = False
    return built


def epoch_of_engine(net, X):
    """Train our net for one epoch, as an estimator does; return the layers."""
    with threads_for(net.batch_size * net.n_parameters()):
        net.train(X, None, 1, OwnNoise(1))
    return net.module_.net


def epoch_by_hand(net, optimizer, X, batch_size):
    """Train a net for one epoch without any library; return it."""
    order = torch.randperm(X.shape[0])
    for i in range(0, X.shape[0], batch_size):
        optimizer.zero_grad()
        squared_error(net, X[order[i : i + batch_size]]).backward()
        optimizer.step()
    return net


def on_one_thread(function, *arguments):
    """Call a function on one thread, as our engine does where the net is small.

    A second one gains the peers nothing there, and on a busy machine it costs them
    many times their time.
    """
    with threads_for(0):
        return function(*arguments)


def _against_skorch(X, pairs):
    start, batch_size = layers(10, 64, 10), 256

    def ours():
        net = engine(start, squared_error, batch_size)
        return lambda: epoch_of_engine(net, X)

    def theirs():
        net = NeuralNet(
            copy.deepcopy(start),
            torch.nn.MSELoss,
            optimizer=torch.optim.Adam,
            lr=_RATE,
            max_epochs=1,
            batch_size=batch_size,
            iterator_train__shuffle=True,
            train_split=None,
            verbose=0,
        ).initialize()
        return lambda: on_one_thread(net.partial_fit, X, X).module_

    return _compare(
        f"an epoch, {X.shape[0]:,} x 10, layers 10-64-10, batches of {batch_size}",
        "skorch NeuralNet, 1 thread",
        ours,
        theirs,
        lambda net: squared_error(net, X),
        pairs,
    )


def _against_hand_loop(X, pairs):
    start, batch_size = layers(10, 64, 10), 256

    def ours():
        net = engine(start, squared_error, batch_size)
        return lambda: epoch_of_engine(net, X)

    def theirs():
        net = copy.deepcopy(start)
        # Fused: the default steps are slower.
        optimizer = torch.optim.Adam(net.parameters(), lr=_RATE, fused=True)
        return lambda: on_one_thread(epoch_by_hand, net, optimizer, X, batch_size)

    return _compare(
        f"an epoch, {X.shape[0]:,} x 10, layers 10-64-10, batches of {batch_size}",
        "loop by hand, fused Adam, 1 thread",
        ours,
        theirs,
        lambda net: squared_error(net, X),
        pairs,
    )


def _against_pythae(X, pairs):
    encoder, decoder = layers(784, 400, 20), layers(20, 400, 784)
    start, batch_size = torch.nn.Sequential(encoder, decoder), 128

    def ours():
        net = engine(start, summed_error, batch_size)
        return lambda: epoch_of_engine(net, X)

    with tempfile.TemporaryDirectory() as folder:
        return _compare(
            f"an epoch, {X.shape[0]:,} x 784, layers 784-400-20-400-784, "
            f"batches of {batch_size}",
            f"BaseTrainer of pythae {version('pythae')}",
            ours,
            lambda: _pythae_epoch(encoder, decoder, X, batch_size, folder),
            lambda net: summed_error(net, X),
            pairs,
        )


def _pythae_epoch(encoder, decoder, X, batch_size, folder):
    """Return what trains a new autoencoder of pythae for one epoch."""
    from pythae.data.datasets import BaseDataset
    from pythae.models import AE, AEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    class Encoder(BaseEncoder):
        def __init__(self):
            super().__init__()
            self.layers = copy.deepcopy(encoder)

        def forward(self, x):
            return ModelOutput(embedding=self.layers(x))

    class Decoder(BaseDecoder):
        def __init__(self):
            super().__init__()
            self.layers = copy.deepcopy(decoder)

        def forward(self, z):
            return ModelOutput(reconstruction=self.layers(z))

    config = AEConfig(input_dim=(X.shape[1],), latent_dim=20)
    options = BaseTrainerConfig(
        output_dir=folder,
        num_epochs=1,
        per_device_train_batch_size=batch_size,
        learning_rate=_RATE,
        no_cuda=True,
    )
    with _quiet():
        trainer = BaseTrainer(
            AE(config, Encoder(), Decoder()),
            BaseDataset(X, torch.zeros(X.shape[0])),
            training_config=options,
        )
        trainer.prepare_training()

    def epoch():
        with _quiet():
            trainer.train_step(1)
        model = trainer.model
        return torch.nn.Sequential(model.encoder.layers, model.decoder.layers)

    return epoch


@contextlib.contextmanager
def _quiet():
    """Run the body without pythae's messages and its progress bar."""
    logging.disable(logging.INFO)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)


def _compare(work, peer, ours, theirs, loss, pairs):
    """Return a row where each run is the first epoch of a net built before."""
    mine, others = ([build() for _ in range(pairs + 1)] for build in (ours, theirs))

    def agreement(a, b):
        with torch.no_grad():
            return f"loss after it {loss(a):.4g} against {loss(b):.4g}"

    return compare(
        work,
        peer,
        lambda: mine.pop()(),
        lambda: others.pop()(),
        agreement,
        pairs,
    )


if __name__ == "__main__":
    main(rows, "training_engine")
