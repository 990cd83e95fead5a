"""Update rules, written in Python for one parameter, as compiled code that makes one pass over all of them.

A rule is called once, with stand-ins that note down what is done to them; what they note becomes machine code.
Numbers meet each other in float64, as in Python, and whatever meets a parameter does so in float32: this is what NumPy
computes for float32 arrays, to the last bit for + − × ÷ and roots, but that subnormal results are zero.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import math
from collections.abc import Iterator
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numpy.lib.mixins import NDArrayOperatorsMixin

from metareplay.errors import BadInput
from metareplay.learners.base import Rule

LANES = 16  # parameters that are computed together. Vectors begin at any float and are as long as a multiple of it.

_INT8, _INT16, _INT32, _INT64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_NUMBER, _FLOAT, _TRUTH = ir.DoubleType(), ir.FloatType(), ir.IntType(1)
_FLOATS, _TRUTHS = ir.VectorType(_FLOAT, LANES), ir.VectorType(_TRUTH, LANES)
_FLUSH = 0x8040  # of x86's control word: a subnormal result becomes zero (else each costs 100 cycles), an operand too

_ARITHMETIC = {"add": "fadd", "subtract": "fsub", "multiply": "fmul", "divide": "fdiv"}
_FUNCTIONS = {"sqrt": "sqrt", "exp": "exp", "log": "log", "absolute": "fabs", "power": "pow"}
_COMPARISONS = {
    "less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">=", "equal": "==", "not_equal": "!=",
}  # fmt: skip
_LOGIC = {"bitwise_and": "and_", "bitwise_or": "or_", "logical_and": "and_", "logical_or": "or_"}
_KNOWN = "arithmetic, comparisons, abs, and numpy's sqrt, square, exp, log, sign, maximum, minimum, clip and where"


class _Traced(NDArrayOperatorsMixin):
    """Stands for a value, a number or a condition. NumPy turns operators into its elementwise functions."""

    def __init__(self, kernel: _Kernel, value: ir.Value) -> None:
        self.kernel = kernel
        self.value = value

    def __array_ufunc__(self, function: np.ufunc, how: str, *given: Any, **options: Any) -> Any:
        if how != "__call__" or options:
            raise TypeError(f"it calls numpy.{function.__name__} with options")
        return self.kernel.apply(function.__name__, given)

    def __array_function__(self, function: Any, _: Any, given: Any, options: Any) -> Any:
        if function is np.clip and len(given) == 3 and not options:
            return np.minimum(np.maximum(given[0], given[1]), given[2])
        return self.kernel.apply("where" if function is np.where else function.__name__, given)

    def __bool__(self) -> bool:
        raise TypeError("it decides by a value, as `if` does: write numpy.where(condition, a, b)")

    def __float__(self) -> float:
        raise TypeError(f"it hands a value to a function of single numbers, as math's are: there are {_KNOWN}")


class _Kernel:
    """The function that is being written: what concerns numbers alone stands before its loop."""

    def __init__(self, vectors: int, numbers: int) -> None:
        kind = ir.FunctionType(ir.VoidType(), [_INT64, _INT64, _INT64.as_pointer()])
        self.module = ir.Module()
        function = ir.Function(self.module, kind, "rule")
        begin, self.end, given = function.args
        self.before = ir.IRBuilder(function.append_basic_block())
        places = [self.before.load(self.before.gep(given, [_INT64(i)])) for i in range(2 + vectors)]
        kinds = [_INT16, _NUMBER, *[_FLOATS] * vectors]
        self.real, at, *self.pointers = (
            self.before.inttoptr(place, kind.as_pointer()) for place, kind in zip(places, kinds, strict=True)
        )
        self.body = ir.IRBuilder(function.append_basic_block())
        self.after = ir.IRBuilder(function.append_basic_block())
        self.on_x86 = llvm.get_process_triple().startswith(("x86_64", "i686"))
        if self.on_x86:
            words = self.before.alloca(_INT32, 2)
            self.word = self.before.bitcast(words, _INT8.as_pointer())
            changed = self.before.gep(words, [_INT64(1)])
            self.call(self.before, "llvm.x86.sse.stmxcsr", ir.VoidType(), self.word)
            self.before.store(self.before.or_(self.before.load(words), _INT32(_FLUSH)), changed)
            changed = self.before.bitcast(changed, _INT8.as_pointer())
            self.call(self.before, "llvm.x86.sse.ldmxcsr", ir.VoidType(), changed)
        self.place = self.body.phi(_INT64)
        self.place.add_incoming(begin, self.before.block)
        self.values = [_Traced(self, self.body.load(self.at(pointer), align=4)) for pointer in self.pointers]
        self.numbers = [_Traced(self, self.before.load(self.before.gep(at, [_INT64(i)]))) for i in range(numbers)]

    def at(self, pointer: ir.Value) -> ir.Value:
        return self.body.gep(pointer, [self.place])

    def call(self, builder: ir.IRBuilder, name: str, result: ir.Type, *given: ir.Value) -> ir.Value:
        function = self.module.globals.get(name) or ir.Function(
            self.module, ir.FunctionType(result, [value.type for value in given]), name
        )
        return builder.call(function, given)

    def apply(self, name: str, given: tuple[Any, ...]) -> _Traced:
        """What NumPy's elementwise function of that name gives."""
        exponent = given[1] if name == "power" and isinstance(given[1], int | float) else None
        if name == "square" or exponent == 2:
            return self.apply("multiply", (given[0], given[0]))
        if exponent == 0.5:
            return self.apply("sqrt", given[:1])
        if name in ("positive", "negative"):
            return self.apply("multiply", (given[0], 1 if name == "positive" else -1))
        if name == "sign":  # of zero and NaN: themselves
            x = given[0]
            return self.apply("where", (x > 0, 1, self.apply("where", (x < 0, -1, x))))
        if name in ("maximum", "minimum"):  # NaN if either is
            a, b = (self.traced(value) for value in given)
            chosen = self.apply("where", (a > b if name == "maximum" else a < b, a, b))
            return self.apply("where", (a != a, a, chosen))
        if name == "where" and len(given) == 3:
            condition, (builder, (a, b)) = self.truth(given[0]), self.alike(given[1:])
            if isinstance(condition.type, ir.VectorType):
                builder, a, b = self.body, self.floats(a), self.floats(b)
            return _Traced(self, builder.select(condition, a, b))
        if name in ("invert", "logical_not"):
            condition = self.truth(given[0])
            return _Traced(self, self.builder(condition).not_(condition))
        if name in _LOGIC:
            a, b = (self.truth(value) for value in given)
            if a.type != b.type:
                raise TypeError("it joins a condition on a parameter with one on a number")
            return _Traced(self, getattr(self.builder(a), _LOGIC[name])(a, b))
        if name not in _ARITHMETIC | _COMPARISONS | _FUNCTIONS:
            raise TypeError(f"it calls numpy.{name}: there are {_KNOWN}")
        builder, values = self.alike(given)
        if name in _ARITHMETIC:
            return _Traced(self, getattr(builder, _ARITHMETIC[name])(*values))
        if name in _COMPARISONS:
            compare = builder.fcmp_unordered if name == "not_equal" else builder.fcmp_ordered
            return _Traced(self, compare(_COMPARISONS[name], *values))
        kind = values[0].type
        if name == "exp" and kind == _FLOATS:
            return _Traced(self, self.exponential(values[0]))
        suffix = "f64" if kind == _NUMBER else f"v{LANES}f32"
        return _Traced(self, self.call(builder, f"llvm.{_FUNCTIONS[name]}.{suffix}", kind, *values))

    def exponential(self, x: ir.Value) -> ir.Value:
        """exp(x) = 2ⁿ exp(r), n the whole number nearest to x / ln 2, exp(r) by Taylor's series: within 2 ulp."""
        body, integers = self.body, ir.VectorType(_INT32, LANES)

        def fma(a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
            return self.call(body, f"llvm.fma.v{LANES}f32", _FLOATS, a, b, c)

        def all_of(number: float) -> ir.Value:
            return ir.Constant(_FLOATS, [float(np.float32(number))] * LANES)

        for least, sign in ((-104.0, "<"), (89.0, ">")):  # beyond, it is zero and infinite; a NaN stays one
            x = body.select(body.fcmp_ordered(sign, x, all_of(least)), all_of(least), x)
        n = self.call(body, f"llvm.roundeven.v{LANES}f32", _FLOATS, body.fmul(x, all_of(1 / math.log(2))))
        high = 0.693145751953125  # of ln 2
        r = fma(n, all_of(high - math.log(2)), fma(n, all_of(-high), x))
        power = all_of(1 / math.factorial(7))
        for k in range(6, -1, -1):
            power = fma(power, r, all_of(1 / math.factorial(k)))
        whole = body.fptosi(body.select(body.fcmp_ordered("ord", n, n), n, all_of(0)), integers)  # of a NaN: none
        half = body.ashr(whole, ir.Constant(integers, [1] * LANES))
        for part in (half, body.sub(whole, half)):  # 2ⁿ itself may be out of range
            bits = body.shl(body.add(part, ir.Constant(integers, [127] * LANES)), ir.Constant(integers, [23] * LANES))
            power = body.fmul(power, body.bitcast(bits, _FLOATS))
        return power

    def traced(self, value: Any) -> _Traced:
        if isinstance(value, _Traced):
            return value
        if isinstance(value, bool | int | float | np.number | np.bool_):
            return _Traced(self, _NUMBER(float(value)))
        raise TypeError(f"it computes with {type(value).__name__}: vectors are given to update as state")

    def builder(self, value: ir.Value) -> ir.IRBuilder:
        return self.body if isinstance(value.type, ir.VectorType) else self.before

    def alike(self, given: tuple[Any, ...]) -> tuple[ir.IRBuilder, list[ir.Value]]:
        """Operands as float32 vectors if one of them is a vector, else as float64; and where to compute with them."""
        values = [self.traced(value).value for value in given]
        if any(isinstance(value.type, ir.VectorType) for value in values):
            return self.body, [self.floats(value) for value in values]
        return self.before, [self.before.uitofp(v, _NUMBER) if v.type == _TRUTH else v for v in values]

    def floats(self, value: ir.Value) -> ir.Value:
        if value.type == _TRUTHS:
            return self.body.uitofp(value, _FLOATS)
        if value.type == _FLOATS:
            return value
        one = self.before.uitofp(value, _FLOAT) if value.type == _TRUTH else self.before.fptrunc(value, _FLOAT)
        alone = self.before.insert_element(ir.Constant(_FLOATS, ir.Undefined), one, _INT32(0))
        lanes = ir.Constant(ir.VectorType(_INT32, LANES), [0] * LANES)
        return self.before.shuffle_vector(alone, ir.Constant(_FLOATS, ir.Undefined), lanes)

    def truth(self, value: Any) -> ir.Value:
        traced = self.traced(value)
        return traced.value if traced.value.type in (_TRUTH, _TRUTHS) else (traced != 0).value

    def finish(self, results: tuple[Any, ...]) -> None:
        """Write the results, and zeros where they are subnormal or a vector is padded."""
        zeros = ir.Constant(_FLOATS, [0.0] * LANES)
        kept = self.body.bitcast(self.body.load(self.at(self.real)), _TRUTHS)
        stored = [self.floats(self.traced(result).value) for result in results]
        targets = [self.pointers[0], *self.pointers[2:]]
        for target, value in zip(targets, stored, strict=False):
            size = self.call(self.body, f"llvm.fabs.v{LANES}f32", _FLOATS, value)
            least = ir.Constant(_FLOATS, [float(np.finfo(np.float32).tiny)] * LANES)
            real = self.body.and_(kept, self.body.fcmp_unordered(">=", size, least))
            self.body.store(self.body.select(real, value, zeros), self.at(target), align=4)
        self.before.branch(self.body.block)
        following = self.body.add(self.place, _INT64(1))
        self.place.add_incoming(following, self.body.block)
        self.body.cbranch(self.body.icmp_signed("<", following, self.end), self.body.block, self.after.block)
        if self.on_x86:
            self.call(self.after, "llvm.x86.sse.ldmxcsr", ir.VoidType(), self.word)
        self.after.ret_void()

    def compiled(self) -> Any:
        """``(begin, end, addresses of the mask, the numbers and the vectors)``, which runs without Python's lock."""
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        module = llvm.parse_assembly(str(self.module))
        module.verify()
        features = llvm.get_host_cpu_features().flatten()
        machine = llvm.Target.from_default_triple().create_target_machine(llvm.get_host_cpu_name(), features, opt=3)
        engine = llvm.create_mcjit_compiler(module, machine)
        engine.finalize_object()
        address = engine.get_function_address("rule")
        function: Any = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)(address)
        function.engine, function.address = engine, address  # it owns the machine code
        return function


_compiled: dict[tuple[Any, ...], tuple[Rule, int, Any]] = {}
"""By what decides what it computes: the rule, which is held so that its code stays the only one at its address."""


def compiled(rule: Rule, vectors: int, numbers: tuple[str, ...]) -> tuple[int, Any]:
    """How many vectors a rule writes, of those that it is given with θ and the gradient, and its machine code.

    ``numbers`` are the names of those that it takes. BadInput if it does what a rule cannot.
    """
    try:
        if not isinstance(rule, FunctionType):
            raise TypeError("a rule is a function of its own, not a method or an object")
        key = (vectors, numbers, *_identity(rule))
        if key not in _compiled:
            _compiled[key] = _compile(rule, vectors, numbers)
        return _compiled[key][1:]
    except TypeError as error:
        name = getattr(rule, "__qualname__", repr(rule))
        raise BadInput(f"the rule {name} cannot be compiled: {error}") from error


def _compile(rule: Rule, vectors: int, numbers: tuple[str, ...]) -> tuple[Rule, int, Any]:
    kernel = _Kernel(vectors, len(numbers))
    returned = rule(*kernel.values, **dict(zip(numbers, kernel.numbers, strict=True)))
    results = returned if isinstance(returned, tuple) else (returned,)
    if not 0 < len(results) < vectors:
        raise TypeError(f"it returns {len(results)} values, but θ and {vectors - 2} state vectors are all there is")
    kernel.finish(results)
    return rule, len(results), kernel.compiled()


def _identity(value: Any) -> Iterator[Any]:
    """What decides what a rule computes: its code, and the numbers and functions that it reads."""
    if isinstance(value, FunctionType):
        yield id(value.__code__)
        for cell in value.__closure__ or ():
            yield from _identity(cell.cell_contents)
        for default in (*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()):
            yield from _identity(default)
        for name in _names(value.__code__):
            if name in value.__globals__:
                yield from _identity(value.__globals__[name])
    elif value is None or isinstance(value, bool | int | float | str | np.number | np.bool_):
        yield value
    elif not isinstance(value, ModuleType | BuiltinFunctionType | np.ufunc | type):
        raise TypeError(f"it reads a {type(value).__name__}, which may change: give numbers by name, vectors as state")


@functools.cache
def _names(code: CodeType) -> tuple[str, ...]:
    inner = [_names(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return tuple(dict.fromkeys(itertools.chain(code.co_names, *inner)))
