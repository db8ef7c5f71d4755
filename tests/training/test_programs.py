"""A loop of `fit` over fresh functions: one program, the numbers of a program of its own, and programs that are freed."""

import collections
import dataclasses
import functools
import gc
import inspect
import os
import sys
import types
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from slax_rules.loop.copies import with_numbers
from slax_rules.loop.structure import DATA, structure
from slax_rules.loop.windows import Online

import slax_rules as sr
from slax_neurons import LIF
from slax_rules import loop
from slax_rules.loop import compilations, programs, split
from slax_rules.training import epoch
from training.small import BATCHES, B, N, made, numbers, same, sample


@pytest.fixture(autouse=True)
def promotion_of_users():
    """Adam of Optax raises a float to an integer power."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def fresh(x):
    """With all numbers that are data."""
    adam = optax.adamw(optax.cosine_decay_schedule(x, 10), weight_decay=x)
    adamax = optax.chain(optax.scale_by_adamax(eps=x), optax.scale_by_schedule(optax.exponential_decay(x, 10, 0.9)))
    return optax.chain(optax.clip(x), optax.clip_by_global_norm(x), optax.trace(x), adam, adamax, optax.scale(x))


def data(transformation, dtype=jnp.float32):
    """The names of the numbers that are data."""
    optimizer = made(transformation, dtype=dtype)[1]
    places = split.split((made()[0], sr.BPTT(), optimizer))[0].places
    return {held.name for held in structure(optimizer.tx.update).values if held.place in places}


def run(transformation, weight=2.0, **options):
    """A run with a fresh loss and a fresh sampler: its losses and arrays."""

    def loss_fn(outputs, labels):
        return weight * sr.cross_entropy(outputs, labels)

    nodes = made(transformation)
    sampler = sr.Sampler(functools.partial(lambda key: sample(key)), jax.random.key(1), steps=4)
    history = sr.fit(*nodes, loss_fn, sampler, epochs=2, held_out=BATCHES[:1], **options)
    return [history.losses, *numbers(*nodes)]


def test_a_sweep_by_hand_compiles_once_and_gives_the_numbers_of_a_program_of_its_own(monkeypatch):
    before = set(epoch._sampled_steps.compiled.entries)
    runs = [run(fresh(rate)) for rate in (0.1, 0.03, 0.2)]
    assert len(set(epoch._sampled_steps.compiled.entries) - before) == 1 and not same(runs[0], runs[1])
    assert data(fresh(0.1)) == DATA
    monkeypatch.setattr(sys.modules[structure.__module__], "DATA", frozenset())
    assert same(run(fresh(0.03)), runs[1])


def test_a_third_program_of_one_structure_is_told_with_the_cure(monkeypatch):
    """The rates differ as well, but they are data. Without a batch, nothing is compiled here."""
    monkeypatch.setattr(compilations, "_programs", programs.LRU(4))  # whatever other tests have compiled
    monkeypatch.setattr(loop.stream, "_start", lambda program, state: Online(state, (), ()))

    def begins(b1=0.9, weight=1.0, held=None, streams=False):
        def loss_fn(y, labels, held=held):
            return weight * sr.cross_entropy(y, labels)

        model, optimizer = made(optax.adam(b1, b1=b1))
        if streams:
            return inspect.unwrap(sr.start_stream)(model, optimizer, loss_fn, (B, N), rule=sr.OTPE())
        with pytest.raises(ValueError, match="gave no batches"):
            inspect.unwrap(sr.fit)(model, optimizer, loss_fn, lambda epoch: ())

    begins(0.93)
    begins(0.8, 2.0)
    begins(0.8, 2.0)
    with pytest.warns(UserWarning) as told:
        begins(0.7)
        begins(0.6)
        for _ in range(4):
            begins(held=object())
        for weight in (1.0, 2.0, 3.0):
            begins(weight=weight, streams=True)
    of_weight = "weight of test_a_third_program_of_one_structure_is_told_with_the_cure in loss_fn"
    for one, name, differing, *cures in zip(
        told,
        ("fit", "fit", "start_stream"),
        (f"b1 of scale_by_adam in the optimizer; {of_weight}", "an object in loss_fn", of_weight),
        ("inject_hyperparams(", "before the loop.", "with the targets."),
        strict=True,
    ):
        text = str(one.message)
        assert text.startswith(f"{name} got a third") and f"differ in {differing}. " in text and cures[0] in text
        assert one.filename == __file__


def scale(step_size):
    """A transformation of one's own with a name of Optax, which branches on its number."""

    def update(gradient, state, params=None):
        return jax.tree.map(lambda g: -step_size * g if step_size > 0 else g, gradient), state

    return optax.GradientTransformation(optax.identity().init, update)


def test_other_numbers_are_no_data():
    """Python computes 1 - b1 in float64, branches on a number of one's own, and rounds one in half precision."""
    assert data(optax.chain(optax.adam(0.1), optax.rmsprop(0.1))) == {
        f"{x} of scale_by_adam" for x in ("eps", "eps_root")
    } | {"step_size of scale"}
    elsewhere = types.FunctionType(scale.__code__, globals() | {"__name__": "flax.own"})  # in another installed package
    assert not data(scale(0.1)) and not data(elsewhere(0.1)) and not data(optax.adam(0.1), jnp.bfloat16)
    injected = [made(optax.inject_hyperparams(optax.adam)(rate), dtype=jnp.bfloat16)[1] for rate in (0.1, 0.2)]
    one, two = (split.split((made()[0], sr.BPTT(), optimizer))[0].key(True) for optimizer in injected)
    assert one == two  # the rate is in the state


class Held:
    """What cannot be compared by content."""


def test_programs_used_last_are_kept_and_others_are_freed(monkeypatch):
    traced = []

    @programs.Programs
    def compiled(what, x):
        traced.append(what.parts[0])
        return x + what.parts[0]

    monkeypatch.setattr(compiled.compiled, "size", 2)
    held = weakref.ref(first := Held())
    for parts in ((1, first), (2,), (1, first), (3,), (1, first)):
        assert compiled(programs.StaticParts(parts), 1.0) == 1 + parts[0]
    assert traced == [1, 2, 3]
    del first, parts
    for number in (4, 5):
        compiled(programs.StaticParts((number,)), 1.0)
    gc.collect()
    assert held() is None


SCALE, ROWS = 2.0, [1.0, 2.0]


def read(outputs):
    return SCALE * outputs


def functions(x=1.0, start=0.0):
    """Functions, each made afresh."""
    rows = np.arange(3.0) + start
    return {
        "closure": lambda y: y * x + rows,
        "partial": functools.partial(read, x=x),
        "default": lambda y, z=x: y * z,
        "global": lambda y: read(y) + len(ROWS),
        "transformation": optax.adam(x),
        "accumulation": optax.MultiSteps(optax.adam(x), 4).gradient_transformation(),
        "dataclass": sr.SequenceLoss(lambda y, labels: x * y),
        "nested": (lambda inner: lambda y: inner(y))(lambda y: y**x),
    }


def test_a_structure_is_the_content(monkeypatch):
    """Its digest is that of any process; another number, array or global value is another key; another code another outline."""
    one, again, other = ({k: structure(f) for k, f in functions(x).items()} for x in (1.0, 1.0, 2.0))
    assert one == again and not any(found.itself for found in one.values())
    assert {kind for kind in one if one[kind].key() != other[kind].key()} == {*one} - {"global"}
    assert {kind for kind in one if one[kind].code != other[kind].code} == set()
    weak, strong = (functools.partial(read, x=two) for two in (jnp.asarray(2.0), jnp.asarray(2.0, jnp.float32)))
    assert structure(weak).code != structure(strong).code  # with half precision, they make other dtypes
    rows = structure(functions(start=1.0)["closure"])
    assert rows.code == one["closure"].code and rows.key() != one["closure"].key()
    assert len({found.digest() for found in one.values()}) == len(one)
    monkeypatch.setitem(globals(), "SCALE", 3.0)  # it is read by a function that the function reads
    assert structure(functions()["global"]).key() != one["global"].key()
    held, out = Held(), []
    assert len(structure((lambda y: held, lambda y: out.append(y))).itself) == 2


def outer_loss():
    count = 0

    def loss(y):
        def note():
            nonlocal count
            count += 1

        note()
        return y

    return loss


def noting(y):
    global SCALE
    SCALE += 1
    return y


@functools.wraps(sr.cross_entropy)
def wrapped(*arguments):
    return SCALE * sr.cross_entropy(*arguments)


@jax.custom_vjp
def spike(x):
    return jnp.sign(x)


def backward(x, g):
    return (g * SCALE,)


spike.defvjp(lambda x: (jnp.sign(x), x), backward)


@dataclasses.dataclass(frozen=True)
class Reading:
    """It reads the global value in a property and in a method without self."""

    @property
    def scale(self):
        return SCALE

    @staticmethod
    def scaled(y):
        return SCALE * y


@jax.named_scope("scoped")
def scoped(y):
    return SCALE * y


@jax.jit
def jitted(y):
    return SCALE * y


def test_wrappers_methods_gradients_of_ones_own_and_states_are_content(monkeypatch):
    assert len(structure((noting, outer_loss())).itself) == 2

    def importing(y):
        import training.small as small

        return small.BATCHES

    assert structure(importing).itself
    values = wrapped, scoped, (lambda y: spike(y)), (lambda y: jitted(y)), Reading()
    before = [structure(one).key() for one in values]
    monkeypatch.setitem(globals(), "SCALE", 3.0)
    assert all(structure(one).key() != key for one, key in zip(values, before, strict=True))


def test_a_function_that_many_others_read_is_read_once():
    """40 functions, each of which reads the two before it: there are 10^8 ways to the first."""
    space = {"f0": lambda y: y, "f1": lambda y: 2 * y}
    exec("\n".join(f"def f{i}(y): return f{i - 1}(y) + f{i - 2}(y)" for i in range(2, 41)), space)
    assert repr(structure(space["f40"]).code).count("('function', ") == 41


def test_a_loss_that_notes_something_is_compiled_once():
    traced = []

    def loss(outputs, labels):
        traced.append(1)
        return sr.cross_entropy(outputs, labels)

    noted = [len(traced) for _ in range(3) if sr.train_offline(*made(), loss, *map(jnp.asarray, BATCHES[0])) > 0]
    assert noted[0] == noted[2] > 0


def test_a_copy_with_another_number_keeps_everything_else():
    x = 2.0

    def scaled(y, z=3.0, *, shift=1.0):
        return x * y + z + shift

    copy = with_numbers([scaled], {(0, 0): 4.0})[0]
    assert copy(1.0) == 8 and scaled(1.0) == 6


class Settings:
    scale = 1.0


@dataclasses.dataclass(eq=False)
class Scaled:
    scale: float = 1.0


def test_what_may_change_behind_a_function_has_a_program_of_its_own(monkeypatch):
    """The attributes of a class, an object that is not frozen, those of a function, what is read by a name that is not in the
    code, a large array."""
    monkeypatch.setattr(sys.modules[structure.__module__], "LARGE", 100)
    scaled, rows = Scaled(), np.ones(50)

    def noted(y):
        return y

    noted.scale = 2.0

    def functions():
        return [
            *(lambda y: y * Settings.scale, lambda y: y * scaled.scale, lambda y: noted(y)),
            *(lambda y: y * getattr(Settings, "scale"), lambda y: y * globals()["SCALE"]),  # noqa: B009
            *(lambda y: y * float(os.environ["SCALE"]), lambda y: y * vars(Settings)["scale"]),
            lambda y: y * rows,
        ]

    key = programs.key_of
    for one, two in zip(functions(), functions(), strict=True):
        assert key(one) == key(one) != key(two)
    rows = rows[:5]
    assert len({key(one) for one in (functions()[-1], functions()[-1])}) == 1


def scaled_by(box):
    return lambda y: box[0] * y


@pytest.mark.parametrize("kind", ["closure", "global", "partial", "dataclass", "unknown"])
def test_a_function_whose_content_has_changed_has_another_key_until_it_is_as_before(kind, monkeypatch):
    box, unknown = [2.0], Held()
    value = {
        "closure": scaled_by(box),
        "global": read,
        "partial": functools.partial(read),
        "dataclass": sr.SequenceLoss(scaled_by(box)),
        "unknown": lambda y: (unknown, read(y)),
    }[kind]
    before = programs.key_of(value)
    monkeypatch.setitem(globals(), "SCALE", 3.0)
    box[0] = 3.0
    assert programs.key_of(value, rechecks=False) == before != programs.key_of(value)
    monkeypatch.setitem(globals(), "SCALE", 2.0)
    box[0] = 2.0
    assert programs.key_of(value) == before


@pytest.mark.parametrize("rechecks", [True, False])
def test_a_program_is_traced_with_the_functions_of_its_caller(rechecks):
    """Two functions of equal content, of which one changes before other shapes come: neither gets the values of the other."""

    @functools.partial(programs.Programs, rechecks=rechecks)
    def compiled(what, x):
        return what.parts[0](x)

    boxes = [2.0], [2.0]
    one, two = (programs.StaticParts((scaled_by(box),)) for box in boxes)
    assert compiled(one, np.ones(1)) == compiled(two, np.ones(1)) == 2.0 and len(compiled.compiled.entries) == 1
    boxes[0][0] = 3.0
    programs.key_of(one)
    assert compiled(one, np.ones(1)) == 2.0  # as it was looked at, whoever else looks at its function
    assert [compiled(which, np.ones(2))[0] for which in (one, two, one, two)] == [3.0, 2.0, 3.0, 2.0]
    assert [compiled(which, np.ones(1)) for which in (one, two)] == [3.0, 2.0]
    assert (
        compiled(programs.StaticParts((scaled_by([3.0]),)), np.ones(2))[0] == 3.0
        and len(compiled.compiled.entries) == 2
    )
    boxes[1][0] = 4.0
    three = programs.StaticParts((scaled_by([2.0]),))
    assert [compiled(which, np.ones(4))[0] for which in (two, three)] == [4.0, 2.0]  # nobody has looked in between
    boxes[1][0] = "no number"
    with pytest.raises(TypeError) as error:
        compiled(two, np.ones(3))
    assert error.value.__context__ is None


class Owner:
    def __init__(self, scale):
        self.scale = scale

    def loss(self, y):
        return self.scale * y


def test_objects_that_cannot_be_compared_stand_for_themselves():
    """However often a method of one is taken, or a function that reads it is wrapped."""
    one, two = Owner(1.0), Owner(1.0)
    assert programs.key_of(one.loss) == programs.key_of(one.loss) != programs.key_of(two.loss)
    reading = [lambda y, owner=owner: owner.scale * y for owner in (one, one)]  # the second one may find it changed
    keys = [programs.key_of(sr.SequenceLoss(reading[which])) for which in (0, 0, 1)]
    assert keys[0] == keys[1] != keys[2]


class Rows(list):
    scale = 2.0


def test_containers_of_other_kinds_are_not_compared():
    fresh = {
        "default": lambda: collections.defaultdict(lambda: 2.0, {0: 1.0}),
        "list": lambda: Rows([1.0]),
        "partial": lambda: type("P", (functools.partial,), {})(read),
    }
    for make in fresh.values():
        one, two = make(), make()
        assert programs.key_of(lambda y, held=one: held) != programs.key_of(lambda y, held=two: held)
    noted = functools.partial(read)
    noted.scale = 2.0
    assert structure(noted).itself
    update = optax.identity().update
    kinds = optax.GradientTransformation, optax.GradientTransformationExtraArgs
    assert len({programs.key_of(kind(optax.identity().init, update)) for kind in kinds}) == 2


GAIN = 1.0


class Gained(LIF):
    """A neuron of one's own, whose method reads a global value and a value of the class."""

    factor = 1.0

    def integrate(self, carry, inputs):
        return super().integrate(carry, GAIN * self.factor * inputs)


@dataclasses.dataclass(frozen=True)
class Louder(sr.SLTT):
    def window(self, layer, window, traces, signal):
        return super().window(layer, window, traces, GAIN * signal)


class Decorated(LIF):
    _gain = 1.0

    @functools.partial(jax.jit, static_argnums=0)
    def integrate(self, carry, inputs):
        return super().integrate(carry, GAIN * self._gain * inputs)


def test_decorated_methods_and_private_numbers_are_content_and_others_are_none(monkeypatch):
    before = structure(Decorated).key()
    with monkeypatch.context() as patch:
        patch.setitem(globals(), "GAIN", 2.0)
        assert structure(Decorated).key() != before
    with monkeypatch.context() as patch:
        patch.setattr(Decorated, "_gain", 2.0)
        assert structure(Decorated).key() != before
    monkeypatch.setattr(Decorated, "made", [1], raising=False)
    monkeypatch.setattr(Decorated, "__repr__", lambda self: "another")
    assert structure(Decorated).key() == before


@pytest.mark.parametrize("changed", ["global", "class", "method"])
def test_methods_of_ones_own_classes_are_looked_at_again(changed, monkeypatch):
    def losses(rule=None):
        model, optimizer = made(modules=[] if rule else [Gained()])
        history = sr.fit(model, optimizer, sr.cross_entropy, BATCHES, rule=rule or sr.BPTT())
        return [*history.losses, sr.evaluate(model, sr.cross_entropy, BATCHES)["loss"]]

    before, of_rule = losses(), losses(Louder())
    match changed:
        case "global":
            monkeypatch.setitem(globals(), "GAIN", 2.0)
            assert losses(Louder()) != of_rule
        case "class":
            monkeypatch.setattr(Gained, "factor", 2.0)
        case "method":
            monkeypatch.setattr(Gained, "integrate", lambda self, carry, inputs: 0.5 * carry + 2 * inputs)
    after = losses()
    assert after != before
    monkeypatch.undo()
    assert losses() == before


class Own(nnx.Module):
    def __init__(self, rate):
        self.tx = optax.sgd(rate)


def test_numbers_of_another_transformation_of_the_model_are_content():
    keys = []
    for rate in (0.1, 0.2):
        model, rule, optimizer = made()[0], sr.BPTT(), made(optax.sgd(0.1))[1]
        model.own = Own(rate)
        keys.append(split.split((model, rule, optimizer))[0].key(True))
    assert keys[0] != keys[1]


@dataclasses.dataclass(frozen=True)
class WithArray:
    rows: np.ndarray


def test_an_option_that_cannot_be_hashed_is_named_each_time():
    for _ in range(2):
        model, optimizer = made()
        model.option = WithArray(np.ones(2))
        with pytest.raises(TypeError, match="expected hashable values, since programs are found by them"):
            sr.train_offline(model, optimizer, sr.cross_entropy, *map(jnp.asarray, BATCHES[0]))
