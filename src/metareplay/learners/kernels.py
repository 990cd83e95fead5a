"""The fused engine's compiled arithmetic: single-example steps of a perceptron on sparse inputs, many to a call.

All compiled code is in this one file, because Numba's cache on disk does not notice a change in an imported one.

How it is fast, all of it exact:

- Weights are stored input-major, so a zero input costs nothing: neither its row's product nor its row's update.
- A row of weights is padded to whole vectors of 16 floats. 1, 2, 4, 7 or 8 vectors are one `Block`, whose sums stay
  in registers while the rows of the non-zero inputs stream by; other layers take their columns a block at a time.
- Hidden units that are off are left out of the next layer and of the backward pass; they are found without a branch.
- One example's gradient has rank one in each layer, so it is never formed: weights are updated from the two factors.

Layout
------
``parameters`` is one flat float32 array. ``layers`` has a row for each layer, with the columns named below. A layer's
block is ``fan_in`` rows of ``STRIDE`` floats, one for each input, and a last row of biases; a private layer has a block
for each task, one after the other.
Padding is zero. A unit that is NaN, and so counts as on, makes even padding count as on in the layers behind it, and a
list of active units then names some that there are none of. To read the rows of those is safe, since there is room
behind the parameters; nothing is written by such a list, because its NaN has reached the scores, which are looked at
first. So padding that a vector brings along is cleared wherever it could reach the parameters.

An example is ``(index, value)``, its non-zero inputs, and a row of ``examples``: how many those are, its class, its
task. A row of the workspace holds what an example's forward pass leaves for its backward pass: for each hidden layer
the list of active units and their values, and for every layer delta, the loss's gradient by its outputs before ReLU.
Where a task's scores are restricted to some classes, ``delta`` goes on behind those rows with one more for each task:
its last segment is added to that task's scores, 0 for its own classes and −1e30 for the others. An array of their own
would be one argument more, whose cost can be measured where a call takes a single step.
"""

from __future__ import annotations

import math

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.extending import intrinsic, models, register_model

from metareplay.compiled import compiled

LANES = 16
"""Floats in a vector: one AVX-512 register, two of AVX, four of NEON or SSE."""
BLOCKS = (1, 2, 4, 7, 8)
"""Vectors in a block: the sums of eight and one row of weights fit 32 registers, and each block takes long to compile.
Seven are a layer of 100 units."""
LINE = 64
"""Bytes in a cache line."""
BLOCK = 32
"""Steps, at most, whose updates of the first layer are made together: the lanes of a row of the transposed block. A
batch of so many is one block, and needs no copy of the rows that it changes; larger ones go in blocks of half the size:
with 26 steps, 101 would take 0.97 of the time, and round otherwise."""
STRIP = 112
"""Inputs whose rows stay in the nearest cache while a block passes over them."""
RULED = 16
"""Inputs whose gradient is formed at a time where a rule takes it from there: it stays in the nearest cache."""
MANY = 64
"""Examples whose inputs are sorted together: their deltas stay in the nearest cache while gradients are added up."""
NEAR = 128
"""Examples that go forward and back together: what they leave stays in the second cache."""
PART = 1024
"""Floats of some fifty vectors that stay in the second cache while each is multiplied by each."""
FEWEST, FEWEST_WITHOUT_REPTILE = 4, 64
"""Steps in a batch from which blocks pay. Measured on 784-100-100-10: 2 steps 1.0, 4 steps 1.4 times as fast; without
the Reptile step, which alone takes a fifth of the time of few, 32 steps 0.9 to 1.3, from 1000 on 1.0 to 1.4."""
NARROWEST = 64
"""Floats in a row of the first layer from which blocks pay: with 16 they take up to twice the time, since entering an
input into the block then costs as much as its row; with 64 (30-50-2), 112 and 400 they are faster."""

# Columns of `layers`; a layer that is not private has COPIES 0.
FAN_IN, FAN_OUT, STRIDE, WEIGHTS, BIASES, TASK_STRIDE, OUTPUTS, COPIES = range(8)
# Columns of `examples`.
COUNT, LABEL, TASK = range(3)
GRADIENT = 3  # its place in what is given to a rule: the mask of padding, the numbers, θ, it, and the state

_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_INT32 = ir.IntType(32)
_INT64 = ir.IntType(64)


class _Part(JITCodeLibrary):
    """Code that only goes into what calls it: by itself it is not optimised, nor turned into machine code."""

    codegen = property(lambda self: self)

    def set_env(self, name, environment):
        """Nothing: what there is no machine code of has no place for it."""

    def finalize(self):
        for library in dict.fromkeys(self._linking_libraries):
            self._reload_init.update(library._reload_init)
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalized = True


class _PartCompiler(Compiler):
    def __init__(self, typing_context, target_context, library, *rest):
        part = _Part(target_context.codegen(), "part") if library is None else library
        super().__init__(typing_context, target_context, part, *rest)


def _inlined(function):
    """Compile into what calls it, without the wrappers for calls from Python and C, which take long to make."""
    return njit(forceinline=True, no_cpython_wrapper=True, no_cfunc_wrapper=True, pipeline_class=_PartCompiler)(
        function
    )


class Block(types.Type):
    """Some vectors of 16 floats that live in registers."""

    def __init__(self, vectors):
        self.vectors = vectors
        super().__init__(name=f"Block({vectors})")


@register_model(Block)
class _BlockModel(models.PrimitiveModel):
    def __init__(self, manager, block):
        super().__init__(manager, block, ir.ArrayType(_VECTOR, block.vectors))


def _data(context, builder, array_type, array):
    pointer = isinstance(array_type, types.CPointer)
    return array if pointer else context.make_array(array_type)(context, builder, array).data


def _pointer(context, builder, array_type, array, offset):
    return builder.gep(_data(context, builder, array_type, array), [offset])


@intrinsic
def _at(typing_context, array, offset):
    """A pointer to ``array[offset]``: shorter code than of a slice, of which references are counted."""

    def generate(context, builder, signature, arguments):
        return _pointer(context, builder, signature.args[0], *arguments)

    return types.CPointer(array.dtype)(array, types.int64), generate


@intrinsic
def _pointers(typing_context, arguments):
    """Arguments with pointers for arrays."""

    def generate(context, builder, signature, given):
        parts = zip(arguments, cgutils.unpack_tuple(builder, given[0]), strict=True)
        values = [
            _data(context, builder, kind, part) if isinstance(kind, types.Array) else part for kind, part in parts
        ]
        return context.make_tuple(builder, signature.return_type, values)

    kinds = [types.CPointer(kind.dtype) if isinstance(kind, types.Array) else kind for kind in arguments]
    return types.Tuple(kinds)(arguments), generate


def _vector_fma(builder):
    return cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(_VECTOR, [_VECTOR] * 3), f"llvm.fma.v{LANES}f32"
    )


@intrinsic
def prefetch(typing_context, array, offset):
    """Ask for the cache line at ``array[offset]``, which will be read soon."""

    def generate(context, builder, signature, arguments):
        pointer = builder.bitcast(
            _pointer(context, builder, signature.args[0], *arguments[:2]), ir.IntType(8).as_pointer()
        )
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [pointer.type, _INT32, _INT32, _INT32]), "llvm.prefetch.p0"
        )
        read, keep, data = (ir.Constant(_INT32, flag) for flag in (0, 3, 1))
        builder.call(function, [pointer, read, keep, data])
        return context.get_dummy_value()

    return types.none(array, types.int64), generate


@intrinsic
def lowest_bit(typing_context, bits):
    """The place of the lowest bit that is set; there is one."""

    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), generate


@intrinsic
def _call(typing_context, function, begin, end, given):
    """Call a rule's machine code at an address, as `rules` has it."""

    def generate(context, builder, signature, arguments):
        address, begin, end, given = arguments
        given = _data(context, builder, signature.args[3], given)
        kind = ir.FunctionType(ir.VoidType(), [_INT64, _INT64, given.type])
        builder.call(builder.inttoptr(address, kind.as_pointer()), [begin, end, given])
        return context.get_dummy_value()

    return types.none(types.int64, types.int64, types.int64, given), generate


def _listing(sign):
    """What lists which of 16 values are so beside zero."""

    @intrinsic
    def list_those(typing_context, z, offset, unit, active, activation, to):
        """Their numbers, from ``unit`` up, into ``active[to:]``, and their values; how many. 16 places are written."""

        def generate(context, builder, signature, arguments):
            z, offset, unit, active, activation, to = arguments
            numbers = ir.VectorType(_INT32, LANES)
            pointer = _pointer(context, builder, signature.args[0], z, offset)
            values = builder.load(builder.bitcast(pointer, _VECTOR.as_pointer()), align=4)
            on = builder.fcmp_unordered(sign, values, ir.Constant(_VECTOR, [0.0] * LANES))
            first = builder.insert_element(
                ir.Constant(numbers, ir.Undefined), builder.trunc(unit, _INT32), ir.Constant(_INT32, 0)
            )
            first = builder.shuffle_vector(first, ir.Constant(numbers, ir.Undefined), ir.Constant(numbers, [0] * LANES))
            units = builder.add(first, ir.Constant(numbers, list(range(LANES))))
            for listed, array_type, array, kind in (
                (values, signature.args[4], activation, f"v{LANES}f32"),
                (units, signature.args[3], active, f"v{LANES}i32"),
            ):
                compress = cgutils.get_or_insert_function(
                    builder.module,
                    ir.FunctionType(listed.type, [listed.type, on.type, listed.type]),
                    f"llvm.experimental.vector.compress.{kind}",
                )
                packed = builder.call(compress, [listed, on, ir.Constant(listed.type, None)])
                if array_type.dtype.bitwidth < 32:
                    packed = builder.trunc(packed, ir.VectorType(ir.IntType(array_type.dtype.bitwidth), LANES))
                pointer = _pointer(context, builder, array_type, array, to)
                builder.store(packed, builder.bitcast(pointer, packed.type.as_pointer()), align=2)
            bits = builder.bitcast(on, ir.IntType(LANES))
            return builder.zext(builder.ctpop(bits), _INT64)

        return types.int64(z, types.int64, types.int64, active, activation, types.int64), generate

    return list_those


list_active = _listing(">")
"""A NaN counts as on, so that it reaches the loss and is noticed there."""
list_inputs = _listing("!=")


@intrinsic
def exponentials(typing_context, scores, offset, largest, count):
    """Replace the first ``count`` of 16 scores by exp(score − largest) ≤ 1 and the others by 0; their sum.

    Within 2 units in the last place; what would be below 1.6e-38 is 0, so that no slow subnormal number arises.
    """

    def generate(context, builder, signature, arguments):
        scores, offset, largest, count = arguments
        integers = ir.VectorType(_INT32, LANES)

        def splat(scalar, kind=_VECTOR):
            alone = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(_INT32, 0))
            return builder.shuffle_vector(alone, ir.Constant(kind, ir.Undefined), ir.Constant(integers, [0] * LANES))

        def constant(number):
            return ir.Constant(_VECTOR, [float(np.float32(number))] * LANES)

        def call(name, result, *operands):
            function = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(result, [operand.type for operand in operands]), name
            )
            return builder.call(function, operands)

        def fma(a, b, c):
            return call(f"llvm.fma.v{LANES}f32", _VECTOR, a, b, c)

        pointer = builder.bitcast(_pointer(context, builder, signature.args[0], scores, offset), _VECTOR.as_pointer())
        x = builder.fsub(builder.load(pointer, align=4), splat(largest))
        counted = builder.icmp_signed(
            "<", ir.Constant(integers, list(range(LANES))), splat(builder.trunc(count, _INT32), integers)
        )
        counted = builder.and_(counted, builder.fcmp_unordered(">=", x, constant(-87)))
        # exp(x) = 2ⁿ exp(r), n the whole number nearest to x / ln 2 (ln 2 in two parts), |r| ≤ ½ ln 2: Taylor's series.
        n = call(f"llvm.roundeven.v{LANES}f32", _VECTOR, builder.fmul(x, constant(1 / math.log(2))))
        high = 0.693145751953125
        r = fma(n, constant(high - math.log(2)), fma(n, constant(-high), x))
        power = constant(1 / math.factorial(7))
        for k in range(6, -1, -1):
            power = fma(power, r, constant(1 / math.factorial(k)))
        n = builder.select(builder.fcmp_ordered("ord", n, n), n, constant(0))  # of a NaN there is no whole number
        whole = builder.fptosi(n, integers)
        exponent = builder.shl(
            builder.add(whole, ir.Constant(integers, [127] * LANES)), ir.Constant(integers, [23] * LANES)
        )
        result = builder.fmul(power, builder.bitcast(exponent, _VECTOR))
        result = builder.select(counted, result, constant(0))
        builder.store(result, pointer, align=4)
        reduce = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.FloatType(), [ir.FloatType(), _VECTOR]),
            f"llvm.vector.reduce.fadd.v{LANES}f32",
        )
        return builder.call(reduce, [ir.Constant(ir.FloatType(), 0.0), result], fastmath=["reassoc"])

    return types.float32(scores, types.int64, types.float32, types.int64), generate


def _operations(vectors):
    """Load, store, multiply and add, and dot product, of ``vectors`` vectors."""
    block = Block(vectors)
    block_ir = ir.ArrayType(_VECTOR, vectors)

    @intrinsic
    def load(typing_context, array, offset):
        def generate(context, builder, signature, arguments):
            pointer = builder.bitcast(_pointer(context, builder, signature.args[0], *arguments), _VECTOR.as_pointer())
            loaded = ir.Constant(block_ir, ir.Undefined)
            for i in range(vectors):
                part = builder.load(builder.gep(pointer, [ir.Constant(_INT64, i)]), align=4)
                loaded = builder.insert_value(loaded, part, i)
            return loaded

        return block(array, types.int64), generate

    @intrinsic
    def store(typing_context, array, offset, stored):
        def generate(context, builder, signature, arguments):
            pointer = builder.bitcast(
                _pointer(context, builder, signature.args[0], *arguments[:2]), _VECTOR.as_pointer()
            )
            for i in range(vectors):
                part = builder.extract_value(arguments[2], i)
                builder.store(part, builder.gep(pointer, [ir.Constant(_INT64, i)]), align=4)
            return context.get_dummy_value()

        return types.none(array, types.int64, block), generate

    @intrinsic
    def multiply_add(typing_context, scalar, a, b):
        """Return scalar · a + b."""

        def generate(context, builder, signature, arguments):
            scalar, a, b = arguments
            undefined = ir.Constant(_VECTOR, ir.Undefined)
            splat = builder.insert_element(undefined, scalar, ir.Constant(_INT32, 0))
            zeros = ir.Constant(ir.VectorType(_INT32, LANES), [0] * LANES)
            splat = builder.shuffle_vector(splat, undefined, zeros)
            result = ir.Constant(block_ir, ir.Undefined)
            for i in range(vectors):
                factors = [splat, builder.extract_value(a, i), builder.extract_value(b, i)]
                result = builder.insert_value(result, builder.call(_vector_fma(builder), factors), i)
            return result

        return block(types.float32, block, block), generate

    @intrinsic
    def dot(typing_context, a, b):
        def generate(context, builder, signature, arguments):
            a, b = arguments
            total = builder.fmul(builder.extract_value(a, 0), builder.extract_value(b, 0))
            for i in range(1, vectors):
                factors = [builder.extract_value(a, i), builder.extract_value(b, i), total]
                total = builder.call(_vector_fma(builder), factors)
            reduce = cgutils.get_or_insert_function(
                builder.module,
                ir.FunctionType(ir.FloatType(), [ir.FloatType(), _VECTOR]),
                f"llvm.vector.reduce.fadd.v{LANES}f32",
            )
            # The order of the sum within a vector is left to the processor: always the same on one kind of it.
            return builder.call(reduce, [ir.Constant(ir.FloatType(), 0.0), total], fastmath=["reassoc"])

        return types.float32(block, block), generate

    @intrinsic
    def nothing(typing_context):
        """Zeros."""

        def generate(context, builder, signature, arguments):
            return ir.Constant(block_ir, None)

        return block(), generate

    return load, store, multiply_add, dot, nothing


_load_lanes, _store_lanes, _multiply_add_lanes, _dot_lanes, _nothing_lanes = _operations(1)
_load_steps, _store_steps, _multiply_add_steps, _, _nothing_steps = _operations(BLOCK // LANES)


SIDE = 4
"""Vectors of as many rows are multiplied by those of as many others: 16 sums, and 5 vectors more, fit 32 registers."""
_load_tile, _store_tile, _, _, _ = _operations(SIDE)


@intrinsic
def _load_rows(typing_context, array, offset, stride):
    """Load a vector of each of a few rows."""
    block = Block(SIDE)

    def generate(context, builder, signature, arguments):
        array, offset, stride = arguments
        loaded = ir.Constant(ir.ArrayType(_VECTOR, SIDE), ir.Undefined)
        for i in range(SIDE):
            pointer = _pointer(context, builder, signature.args[0], array, offset)
            part = builder.load(builder.bitcast(pointer, _VECTOR.as_pointer()), align=4)
            loaded = builder.insert_value(loaded, part, i)
            offset = builder.add(offset, stride)
        return loaded

    return block(array, types.int64, types.int64), generate


@intrinsic
def _add_products(typing_context, a, rows, sums):
    """Return a · row + sum, of each row."""

    def generate(context, builder, signature, arguments):
        a, rows, sums = arguments
        for i in range(SIDE):
            factors = [builder.extract_value(block, j) for block, j in ((a, 0), (rows, i), (sums, i))]
            sums = builder.insert_value(sums, builder.call(_vector_fma(builder), factors), i)
        return sums

    return sums(a, rows, sums), generate


@intrinsic
def _add_product(typing_context, a, b, c):
    """Return a · b + c, rounded twice."""

    def generate(context, builder, signature, arguments):
        a, b, c = (builder.extract_value(block, 0) for block in arguments)
        return builder.insert_value(arguments[0], builder.fadd(builder.fmul(a, b), c), 0)

    return a(a, b, c), generate


def _block_loops(vectors):
    """The inner loops, for rows of ``vectors`` vectors."""
    load, store, multiply_add, dot, nothing = _operations(vectors)

    @_inlined
    def sum_rows(column, stride, weights, offset, initial, at, index, value, count, out):
        """out = initial[at:] + Σ value · row, over the listed rows."""
        offset += column
        total = load(initial, at + column)
        if vectors > 2:
            for j in range(count):
                total = multiply_add(value[j], load(weights, offset + np.int64(index[j]) * stride), total)
        else:  # four sums, since one alone would wait for itself
            two, three, four = nothing(), nothing(), nothing()
            whole = count & ~3
            for j in range(0, whole, 4):
                total = multiply_add(value[j], load(weights, offset + np.int64(index[j]) * stride), total)
                two = multiply_add(value[j + 1], load(weights, offset + np.int64(index[j + 1]) * stride), two)
                three = multiply_add(value[j + 2], load(weights, offset + np.int64(index[j + 2]) * stride), three)
                four = multiply_add(value[j + 3], load(weights, offset + np.int64(index[j + 3]) * stride), four)
            for j in range(whole, count):
                total = multiply_add(value[j], load(weights, offset + np.int64(index[j]) * stride), total)
            one = np.float32(1)
            total = multiply_add(one, multiply_add(one, total, two), multiply_add(one, three, four))
        store(out, column, total)

    @_inlined
    def add_to_rows(column, stride, weights, offset, biases, index, value, count, scale, delta):
        """row += scale · value · delta, for the listed rows, and biases += scale · delta."""
        offset, biases = offset + column, biases + column
        change = load(delta, column)
        store(weights, biases, multiply_add(scale, change, load(weights, biases)))
        for j in range(count):
            row = offset + np.int64(index[j]) * stride
            store(weights, row, multiply_add(value[j] * scale, change, load(weights, row)))

    @_inlined
    def dot_rows(column, stride, weights, offset, index, count, delta, out):
        """out[i] += row · delta, for the listed rows i."""
        offset += column
        change = load(delta, column)
        for j in range(count):
            i = np.int64(index[j])
            out[i] += dot(load(weights, offset + i * stride), change)

    @_inlined
    def dot_and_add_to_rows(column, stride, weights, offset, biases, index, value, count, scale, delta, out):
        """Both at once, the dot product with the row as it was before."""
        offset, biases = offset + column, biases + column
        change = load(delta, column)
        store(weights, biases, multiply_add(scale, change, load(weights, biases)))
        for j in range(count):
            i = np.int64(index[j])
            row = load(weights, offset + i * stride)
            out[i] += dot(row, change)
            store(weights, offset + i * stride, multiply_add(value[j] * scale, change, row))

    @_inlined
    def forward_strip(
        column, stride, weights, end, room, index, value, rows, n, counts, places, transposed, present, gram, z
    ):
        """Go forward with a block's inputs from ``places`` up to ``end``; write them into ``transposed``."""
        for i in range(n):
            inputs, values, j, count = _at(index, rows[i] * room), _at(value, rows[i] * room), places[i], counts[i]
            if j < count and inputs[j] < end:
                total, products = load(z, i * stride + column), _load_steps(gram, i * BLOCK)
                while j < count:
                    k, x = np.int64(inputs[j]), values[j]
                    if k >= end:
                        break
                    total = multiply_add(x, load(weights, k * stride + column), total)
                    if column == 0:
                        products = _multiply_add_steps(x, _load_steps(transposed, k * BLOCK), products)
                        transposed[k * BLOCK + i] = x
                        present[k] |= np.uint32(1 << i)
                    j += 1
                store(z, i * stride + column, total)
                _store_steps(gram, i * BLOCK, products)
                if column + vectors * LANES >= stride:
                    places[i] = j

    @_inlined
    def update_strip(
        column, stride, weights, begin, end, transposed, present, taken, change, undo, stamps, remembering
    ):
        """Make the update of the steps ``taken`` of a block in the rows of inputs ``begin`` to ``end``."""
        last = column + vectors * LANES >= stride
        for k in range(begin, end):
            bits = np.int64(present[k])
            if bits != 0:
                place = k * stride + column
                row = load(weights, place)
                if remembering and stamps[k] == 0:
                    store(undo, place, row)
                    stamps[k] = last
                bits &= taken
                while bits != 0:
                    i = lowest_bit(bits)
                    bits &= bits - 1
                    row = multiply_add(transposed[k * BLOCK + i], load(change, i * stride + column), row)
                store(weights, place, row)
                if last:
                    present[k] = 0
                    _store_steps(transposed, k * BLOCK, _nothing_steps())

    @_inlined
    def sum_strip(
        column, stride, weights, layers, end, examples, room, index, value, rows, n, counts, depth, delta, width
    ):
        """Add a strip's part to the first layer's outputs; the last of ``counts`` is how far each row has come."""
        for i in range(n):
            example, j = _at(examples, rows[i] * (TASK + 1)), counts[i * depth + depth - 1]
            inputs, values, count = _at(index, rows[i] * room), _at(value, rows[i] * room), example[COUNT]
            if j < count and inputs[j] < end:
                own = _at(weights, layers[WEIGHTS] + example[TASK] * layers[TASK_STRIDE] + column)
                total = load(delta, i * width + layers[OUTPUTS] + column)
                while j < count:
                    k = np.int64(inputs[j])
                    if k >= end:
                        break
                    total = multiply_add(values[j], load(own, k * stride), total)
                    j += 1
                store(delta, i * width + layers[OUTPUTS] + column, total)
                if column + vectors * LANES >= stride:
                    counts[i * depth + depth - 1] = j

    @_inlined
    def add_strip(
        column, stride, target, layers, end, examples, room, index, value, rows, n, counts, depth, delta, width, scales
    ):
        """Add a strip's part of many rows' scaled gradients."""
        for i in range(n):
            example, j = _at(examples, rows[i] * (TASK + 1)), counts[i * depth + depth - 1]
            inputs, values, count = _at(index, rows[i] * room), _at(value, rows[i] * room), example[COUNT]
            if j < count and inputs[j] < end:
                own = _at(target, layers[WEIGHTS] + example[TASK] * layers[TASK_STRIDE] + column)
                change = multiply_add(scales[i], load(delta, i * width + layers[OUTPUTS] + column), nothing())
                while j < count:
                    k = np.int64(inputs[j])
                    if k >= end:
                        break
                    store(own, k * stride, multiply_add(values[j], change, load(own, k * stride)))
                    j += 1
                if column + vectors * LANES >= stride:
                    counts[i * depth + depth - 1] = j

    @_inlined
    def sum_images(column, stride, weights, starts, columns, values, rows, n, width, out):
        """Add a strip's part to the first layer's outputs for images, whose inputs from ``starts[row]`` on it lists."""
        for i in range(n):
            begin, end, of = starts[rows[i]], starts[rows[i] + 1], _at(out, i * width)
            zero, listed, x = np.int64(0), _at(columns, begin), _at(values, begin)
            sum_rows(column, stride, weights, zero, of, zero, listed, x, end - begin, of)

    return (
        sum_rows, add_to_rows, dot_rows, dot_and_add_to_rows, forward_strip, update_strip, sum_strip, add_strip,
        sum_images,
    )  # fmt: skip


@_inlined
def _widest(vectors):
    """Vectors in the widest block that does not go beyond so many."""
    if vectors >= 7:
        return min(vectors, 8)
    return 4 if vectors >= 4 else min(vectors, 2)


def _by_columns(loops):
    """One function for any number of columns, which it takes a block at a time."""
    one, two, four, seven, eight = loops

    @_inlined
    def loop(stride, *arguments):
        column, pointers = 0, _pointers(arguments)
        while column < stride:
            vectors = _widest((stride - column) // LANES)
            if vectors == 7:
                seven(column, stride, *pointers)
            elif vectors == 1:
                one(column, stride, *pointers)
            elif vectors == 2:
                two(column, stride, *pointers)
            elif vectors == 4:
                four(column, stride, *pointers)
            else:
                eight(column, stride, *pointers)
            column += vectors * LANES

    return loop


(
    _sum_rows, _add_to_rows, _dot_rows, _dot_and_add_to_rows, _forward_strip, _update_strip, _sum_strip, _add_strip,
    _sum_images,
) = (_by_columns(loops) for loops in zip(*map(_block_loops, BLOCKS), strict=True))  # fmt: skip


@_inlined
def _copy_row(source, begin, target, to, stride):
    for column in range(0, stride, LANES):
        _store_lanes(target, to + column, _load_lanes(source, begin + column))


@_inlined
def _clear(target, begin, end):
    for k in range(begin, end, LANES):
        _store_lanes(target, k, _nothing_lanes())


@_inlined
def _interpolate_row(now, offset, before, begin, rate, stride):
    """now = before + rate·(now − before)."""
    for column in range(0, stride, LANES):
        start = _load_lanes(before, begin + column)
        change = _multiply_add_lanes(np.float32(-1), start, _load_lanes(now, offset + column))
        _store_lanes(now, offset + column, _multiply_add_lanes(rate, change, start))


# One example


@_inlined
def _rectify(z, stride, active, activation):
    """List the units that are on and their values; how many. Without a branch: no processor can guess which are on."""
    on = 0
    for unit in range(0, stride, LANES):  # padding is zero, so never on
        on += list_active(z, unit, unit, active, activation, on)
    return on


@_inlined
def _mask(layers, task, delta, masks):
    """Exclude the classes that are not a task's from its scores, the last segment of ``delta``."""
    begin, rows = masks
    if begin > 0:
        for c in range(layers[len(layers) - 1, OUTPUTS], rows.shape[1]):
            delta[c] += rows[begin + task, c]


@_inlined
def _forward_from_second(parameters, layers, task, active, activation, counts, delta):
    """Go on where delta's first segment holds the first layer's outputs."""
    for layer in range(1, len(layers)):
        before = layers[layer - 1, OUTPUTS]
        units, values = _at(active, before), _at(activation, before)
        counts[layer - 1] = _rectify(_at(delta, before), layers[layer - 1, STRIDE], units, values)
        own = task * layers[layer, TASK_STRIDE]
        _sum_rows(
            layers[layer, STRIDE], parameters, layers[layer, WEIGHTS] + own, parameters, layers[layer, BIASES] + own,
            units, values, counts[layer - 1], _at(delta, layers[layer, OUTPUTS]),
        )  # fmt: skip


@_inlined
def _workspace(active, activation, counts, delta, i):
    """Pointers to a row of the workspace."""
    width = delta.shape[1]
    return _at(active, i * width), _at(activation, i * width), _at(counts, i * counts.shape[1]), _at(delta, i * width)


@_inlined
def _masks(active, delta):
    """Where in ``delta`` the tasks' masks begin, behind the workspace's own rows, or 0 if there are none; ``delta``."""
    return len(active) if len(delta) > len(active) else 0, delta


@_inlined
def _loss_gradient(scores, stride, classes, label):
    """Turn padded scores into softmax − onehot(label), the cross-entropy's gradient. False if it is not finite."""
    largest = scores[0]
    for c in range(1, classes):
        largest = max(largest, scores[c])
    margin = scores[label] - largest
    total = np.float32(0)
    for c in range(0, stride, LANES):
        total += exponentials(scores, c, largest, classes - c)
    if not (total <= classes and margin > -np.inf):  # a NaN fails the first comparison
        return False
    inverse = np.float32(1) / total
    for c in range(stride):
        scores[c] *= inverse
    scores[label] -= np.float32(1)
    return True


@_inlined
def _backward(parameters, layers, task, active, counts, delta):
    """Delta of every layer, from that of the last."""
    for layer in range(len(layers) - 1, 0, -1):
        before = layers[layer - 1, OUTPUTS]
        _clear(delta, before, before + layers[layer - 1, STRIDE])
        _dot_rows(
            layers[layer, STRIDE], parameters, layers[layer, WEIGHTS] + task * layers[layer, TASK_STRIDE],
            _at(active, before), counts[layer - 1], _at(delta, layers[layer, OUTPUTS]), _at(delta, before),
        )  # fmt: skip


@_inlined
def _step_behind_first(parameters, layers, label, task, active, activation, counts, delta, masks, lr):
    """One SGD step in all layers but the first, whose outputs are given. Its delta takes their place."""
    _forward_from_second(parameters, layers, task, active, activation, counts, delta)
    _mask(layers, task, delta, masks)
    return _learn_behind_first(parameters, layers, label, task, active, activation, counts, delta, lr)


@_inlined
def _learn_behind_first(parameters, layers, label, task, active, activation, counts, delta, lr):
    """Go on from the scores: False, with nothing changed, if the loss is not finite.

    Each layer's backward pass and update share one visit to its rows.
    """
    last = len(layers) - 1
    scores = layers[last, OUTPUTS]
    if not _loss_gradient(_at(delta, scores), layers[last, STRIDE], layers[last, FAN_OUT], label):
        return False
    for layer in range(last, 0, -1):
        before = layers[layer - 1, OUTPUTS]
        own = task * layers[layer, TASK_STRIDE]
        _clear(delta, before, before + layers[layer - 1, STRIDE])
        _dot_and_add_to_rows(
            layers[layer, STRIDE], parameters, layers[layer, WEIGHTS] + own, layers[layer, BIASES] + own,
            _at(active, before), _at(activation, before), counts[layer - 1], -lr, _at(delta, layers[layer, OUTPUTS]),
            _at(delta, before),
        )  # fmt: skip
    return True


@_inlined
def _prefetch_example(examples, index, value, row):
    """Start fetching an example that will soon be replayed: the table is too large for the near caches."""
    count = examples[row, COUNT]
    for j in range(0, count, LINE // value.itemsize):
        prefetch(value, row * value.shape[1] + j)
    for j in range(0, count, LINE // index.itemsize):
        prefetch(index, row * index.shape[1] + j)


# Many examples: what the learner calls


@_inlined
def _copy(source, target, count):
    """Copy some elements one by one: an assignment to a slice would bring 2 s of compiling for its message."""
    for k in range(count):
        target[k] = source[k]


@_inlined
def _require_slot(slot, slots):
    """Compiled code would read and write beyond the table where Python raises."""
    if slot < 0 or slot >= slots:
        raise IndexError("a row names a slot that the learner's table does not have")


@_inlined
def _require_slots(rows, slots):
    for row in rows.flat:
        _require_slot(row, slots)


@_inlined
def _first_wrong(rows, examples, layers, active, delta, labelled):
    """The place in ``rows`` of the first example of a class (where that counts) or task that there is not; −1: none."""
    classes, tasks = layers[len(layers) - 1, FAN_OUT], len(delta) - len(active)
    for layer in range(len(layers)):
        if layers[layer, COPIES] > 0:
            tasks = layers[layer, COPIES] if tasks == 0 else min(tasks, layers[layer, COPIES])
    for i in range(len(rows)):
        row = rows[i]
        _require_slot(row, len(examples))
        if labelled and not 0 <= examples[row, LABEL] < classes:
            return i
        if tasks > 0 and not 0 <= examples[row, TASK] < tasks:
            return i
    return -1


@compiled
def sgd_each(parameters, layers, examples, index, value, rows, lr, active, activation, counts, delta):
    """One SGD step on each of a few ``rows (n,)``, as ``steps`` does for many: fewer arguments take less time to pass.

    −1 − i says that nothing was done, because of the example ``rows[i]``: see `_first_wrong`.
    """
    wrong = _first_wrong(rows, examples, layers, active, delta, True)
    if wrong >= 0:
        return -1 - wrong
    masks, workspace = _masks(active, delta), _workspace(active, activation, counts, delta, np.int64(0))
    of = layers[0, OUTPUTS]
    for i in range(len(rows)):
        row, scale = rows[i], -lr[i if len(lr) > 1 else 0]
        if i + 1 < len(rows):
            _prefetch_example(examples, index, value, rows[i + 1])
        own = examples[row, TASK] * layers[0, TASK_STRIDE]
        weights, stride, biases = layers[0, WEIGHTS] + own, layers[0, STRIDE], layers[0, BIASES] + own
        inputs, values, count = _at(index, row * index.shape[1]), _at(value, row * value.shape[1]), examples[row, COUNT]
        _sum_rows(stride, parameters, weights, parameters, biases, inputs, values, count, _at(delta, of))
        if not _step_behind_first(
            parameters, layers, examples[row, LABEL], examples[row, TASK], *workspace, masks, -scale
        ):  # fmt: skip
            return i
        _add_to_rows(stride, parameters, weights, biases, inputs, values, count, scale, _at(delta, of))
    return len(rows)


@_inlined
def _put(example, indices, values, x, label, task):
    """Write a dense example as the list of its non-zero inputs, which has room for one more."""
    listed, by_vectors = np.int64(0), len(indices) >= len(x) and x.strides[0] == x.itemsize
    whole = len(x) // LANES * LANES if by_vectors else 0
    for j in range(0, whole, LANES):
        listed += list_inputs(x, j, j, indices, values, listed)
    count = np.uint64(listed)
    for j in range(whole, len(x)):
        indices[count] = j
        values[count] = x[j]
        count += np.uint64(x[j] != 0)
    example[COUNT], example[LABEL], example[TASK] = count, label, task


@compiled
def predict_and_learn(
    parameters, layers, examples, index, value, x, y, task, lr, active, activation, counts, delta, predicted
):
    """Put each dense example into slot 0, predict its class, and take one SGD step on it; how many before a bad one."""
    masks, of, stride = _masks(active, delta), layers[0, OUTPUTS], layers[0, STRIDE]
    workspace = _workspace(active, activation, counts, delta, np.int64(0))
    own = task * layers[0, TASK_STRIDE]
    weights, biases, scores = layers[0, WEIGHTS] + own, layers[0, BIASES] + own, layers[len(layers) - 1, OUTPUTS]
    slot, inputs, values = np.zeros(1, np.int64), _at(index, np.int64(0)), _at(value, np.int64(0))
    for i in range(len(y)):
        _put(examples[0], index[0], value[0], x[i], y[i], task)
        if _first_wrong(slot, examples, layers, active, delta, True) >= 0:
            return i
        count = examples[0, COUNT]
        _sum_rows(stride, parameters, weights, parameters, biases, inputs, values, count, _at(delta, of))
        _forward_from_second(parameters, layers, task, *workspace)
        _mask(layers, task, workspace[3], masks)
        best = 0
        for c in range(1, layers[len(layers) - 1, FAN_OUT]):
            if delta[0, scores + c] > delta[0, scores + best]:
                best = c
        predicted[i] = best
        if not _learn_behind_first(parameters, layers, y[i], task, *workspace, lr):
            return i
        _add_to_rows(stride, parameters, weights, biases, inputs, values, count, -lr, _at(delta, of))
    return len(y)


@_inlined
def _visit_strips(parameters, layers, examples, index, value, rows, n, taken, dual, undo, stamps, finish, rate):
    """Pass over the first layer a strip of its inputs at a time: update it with one block, go forward with the next.

    ``taken`` has a bit for each step of the block whose update is to be made. Where ``undo`` is to hold the rows as
    they were before the batch (``stamps`` says which it does), ``finish`` moves them back, as Reptile does.
    Of the next block, ``rows[:n]``, come the first layer's outputs before the block, the transposed inputs, and what
    a step on one example does to the outputs for a later one: their Gram matrix, with 1 added for the biases.
    """
    transposed, present, z, change, gram, counts, places, _ = dual
    offset, stride, fan_in = layers[0, WEIGHTS], layers[0, STRIDE], layers[0, FAN_IN]
    for i in range(n):
        _copy_row(parameters, layers[0, BIASES], z, i * stride, stride)
        counts[i], places[i] = examples[rows[i], COUNT], 0
        for j in range(BLOCK):
            gram[i * BLOCK + j] = np.float32(1)
    for begin in range(0, fan_in, STRIP):
        end = min(begin + STRIP, fan_in)
        if taken != 0:
            _update_strip(
                stride, parameters, begin, end, transposed, present, taken, change, undo, stamps, len(stamps) > 0
            )
            if finish and len(stamps) > 0:
                for k in range(begin, end):
                    if stamps[k] != 0:
                        stamps[k] = 0
                        _interpolate_row(parameters, offset + k * stride, undo, offset + k * stride, rate, stride)
        _forward_strip(
            stride, parameters, end, index.shape[1], index, value, rows, n, counts, places, transposed, present, gram, z
        )


@compiled
def steps(
    parameters, layers, examples, index, value, rows, lr, rate, active, activation, counts, delta,
    undo, touched, stamps, blocks, dual,
):  # fmt: skip
    """For each batch of ``rows (b, n)``: single-example steps, then θ ← θ₀ + rate·(θ − θ₀); a rate of 1 moves nothing.

    The i-th step of all is taken at ``lr[i]``, or all at its only element. With ``blocks`` the first layer, which all
    tasks must share, is in its dual form: a step on xᵢ changes it by −lr·xᵢδᵢᵀ, and so its outputs for a later xⱼ by
    −lr·(⟨xᵢ, xⱼ⟩ + 1)·δᵢ. Its weights are thus read once, and written once, for up to 32 steps.
    Of a batch only what changed is remembered and moved: of the first layer the rows of inputs that were not zero,
    and all that is behind it. ``stamps``, one for each row of the first layer, are zero, and are so again on return.
    Returns how many steps were done before a bad loss; they stay done. −1 − i: see `_first_wrong`.
    """
    wrong = _first_wrong(rows.reshape(-1), examples, layers, active, delta, True)
    if wrong >= 0:
        return -1 - wrong
    masks, workspace = _masks(active, delta), _workspace(active, activation, counts, delta, np.int64(0))
    batches, size = rows.shape
    offset, stride, biases = layers[0, WEIGHTS], layers[0, STRIDE], layers[0, BIASES]
    outputs = _at(delta, layers[0, OUTPUTS])
    transposed, present, z, change, gram, _, _, order = dual
    first = _at(order, np.int64(0))
    begin = biases if blocks else offset + len(stamps) * stride
    rest = len(parameters) - begin
    moved = rate != 1
    remembered = stamps[: len(stamps) if blocks and moved and size > BLOCK else 0]
    at_once = max(size if size <= BLOCK or not blocks else BLOCK // 2, 1)
    flat, lookahead = rows.reshape(-1), BLOCK if blocks else 1
    done = n = taken = changed = np.int64(0)  # of no literal type, for which all that is called would be compiled too
    good = True
    for batch in range(batches + 1):  # once more, without steps, for the last block's update
        ending = batch == batches or not good
        if moved and not ending:
            _copy_row(parameters, begin, undo, begin, rest)
        for at in range(0, size, at_once):
            n = 0 if ending else min(at_once, size - at)
            if blocks:
                _visit_strips(
                    parameters, layers, examples, index, value, flat[batch * size + at :], n, taken, dual,
                    undo, remembered, good and at == 0, rate,
                )  # fmt: skip
                taken = 0
            if ending:
                break
            for q in range(n):
                row = flat[batch * size + at + q]
                ahead = done + lookahead
                if ahead < len(flat):
                    _prefetch_example(examples, index, value, flat[ahead])
                task, count, lr_now = examples[row, TASK], examples[row, COUNT], lr[done if len(lr) > 1 else 0]
                own = task * layers[0, TASK_STRIDE]
                inputs, values = _at(index, row * index.shape[1]), _at(value, row * value.shape[1])
                if blocks:
                    _sum_rows(stride, change, np.int64(0), z, q * stride, first, _at(gram, q * BLOCK), q, outputs)
                else:
                    _sum_rows(
                        stride, parameters, offset + own, parameters, biases + own, inputs, values, count, outputs
                    )
                good = _step_behind_first(parameters, layers, examples[row, LABEL], task, *workspace, masks, lr_now)
                if not good:
                    break
                if blocks:
                    for column in range(0, stride, LANES):
                        change_now = _multiply_add_lanes(-lr_now, _load_lanes(outputs, column), _nothing_lanes())
                        _store_lanes(change, q * stride + column, change_now)
                        settled = _multiply_add_lanes(
                            np.float32(1), change_now, _load_lanes(parameters, biases + column)
                        )
                        _store_lanes(parameters, biases + column, settled)
                    taken |= 1 << q
                else:
                    if moved:
                        for j in range(count + 1):
                            place = own // stride + (np.int64(inputs[j]) if j < count else layers[0, FAN_IN])
                            if stamps[place] == 0:
                                stamps[place] = 1
                                touched[changed] = place
                                changed += 1
                                _copy_row(parameters, offset + place * stride, undo, offset + place * stride, stride)
                    _add_to_rows(
                        stride, parameters, offset + own, biases + own, inputs, values, count, -lr_now, outputs
                    )
                done += 1
            if not good:
                break
        for k in range(changed):
            stamps[touched[k]] = 0
            if good:
                place = offset + touched[k] * stride
                _interpolate_row(parameters, place, undo, place, rate, stride)
        changed = 0
        if ending:
            break
        if moved and good:
            _interpolate_row(parameters, begin, undo, begin, rate, rest)
            if blocks and len(remembered) == 0:  # a batch in one block: all of its change is still to be made
                for k in range(n * stride):
                    change[k] *= rate
    if not good and blocks:
        transposed[:] = np.float32(0)
        present[:] = 0
        remembered[:] = 0
    return done


@_inlined
def _first_layer(parameters, layers, examples, index, value, rows, counts, delta):
    """The first layer's outputs of all rows grow strip by strip: a strip's weights stay in the nearest cache."""
    for i in range(len(rows)):
        _prefetch_example(examples, index, value, rows[i])
        biases = layers[0, BIASES] + examples[rows[i], TASK] * layers[0, TASK_STRIDE]
        _copy_row(parameters, biases, delta, i * delta.shape[1] + layers[0, OUTPUTS], layers[0, STRIDE])
        counts[i, len(layers) - 1] = 0
    for end in range(STRIP, layers[0, FAN_IN] + STRIP, STRIP):
        _sum_strip(
            layers[0, STRIDE], parameters, layers, end, examples, index.shape[1], index, value, rows, len(rows), counts,
            counts.shape[1], delta, delta.shape[1],
        )  # fmt: skip


@_inlined
def _forward_each(parameters, layers, examples, index, value, rows, active, activation, counts, delta, masks):
    """Fill row i of the workspace by the forward pass of ``rows[i]``: strip by strip if that sums in the same order."""
    vectors = layers[0, STRIDE] // LANES
    in_strips = len(rows) >= FEWEST and (vectors % 8 == 7 or vectors % 4 == 0)
    if in_strips:
        _first_layer(parameters, layers, examples, index, value, rows, counts, delta)
    for i in range(len(rows)):
        row, task = rows[i], examples[rows[i], TASK]
        if not in_strips:
            if i + 1 < len(rows):
                _prefetch_example(examples, index, value, rows[i + 1])
            own = task * layers[0, TASK_STRIDE]
            _sum_rows(
                layers[0, STRIDE], parameters, layers[0, WEIGHTS] + own, parameters, layers[0, BIASES] + own,
                _at(index, row * index.shape[1]), _at(value, row * value.shape[1]), examples[row, COUNT],
                _at(delta, i * delta.shape[1] + layers[0, OUTPUTS]),
            )  # fmt: skip
        _forward_from_second(parameters, layers, task, *_workspace(active, activation, counts, delta, i))
        _mask(layers, task, _at(delta, i * delta.shape[1]), masks)


@compiled
def forward(parameters, layers, examples, index, value, rows, active, activation, counts, delta, out):
    """Scores of ``rows (n,)`` into ``out (n, classes)``. Returns how many, or −1 − the place of a wrong example."""
    wrong = _first_wrong(rows, examples, layers, active, delta, False)
    if wrong >= 0:
        return -1 - wrong
    _forward_each(
        parameters, layers, examples, index, value, rows, active, activation, counts, delta, _masks(active, delta)
    )
    for i in range(len(rows)):
        for c in range(out.shape[1]):
            out[i, c] = delta[i, layers[len(layers) - 1, OUTPUTS] + c]
    return len(rows)


@compiled
def raw(parameters, layers, examples, index, value, rows, active, activation, counts, delta, out):
    """Fill row i of the workspace by the forward pass of ``rows[i]``, and ``out`` by its scores, of all classes.

    Returns the place of the first with a score or an active unit that is not finite (their number if there is none), or
    −1 − the place of a wrong example.
    """
    wrong = _first_wrong(rows, examples, layers, active, delta, False)
    if wrong >= 0:
        return -1 - wrong
    scores, finite = layers[len(layers) - 1, OUTPUTS], len(rows)
    _forward_each(parameters, layers, examples, index, value, rows, active, activation, counts, delta, (0, delta))
    for i in range(len(rows)):
        total = np.float32(0)  # stays zero as long as all that is added, times zero, is finite
        for c in range(layers[len(layers) - 1, FAN_OUT]):
            out[i, c] = delta[i, scores + c]
            total += out[i, c] * np.float32(0)
        for layer in range(len(layers) - 1):
            begin = layers[layer, OUTPUTS]
            for k in range(counts[i, layer]):
                total += activation[i, begin + k] * np.float32(0)
        if total != 0:
            finite = min(finite, i)
    return finite


@compiled
def weight_sizes(parameters, layers, coming, going):
    """Of layers that all tasks share the mean abs weight to each unit, and the sum of those that go out of it."""
    part = np.empty(LANES, np.float32)
    for layer in range(len(layers)):
        stride = layers[layer, STRIDE]
        sums = coming[layers[layer, OUTPUTS] :][:stride]
        for i in range(layers[layer, FAN_IN]):
            row = parameters[layers[layer, WEIGHTS] + i * stride :][:stride]
            for c in range(len(sums)):
                sums[c] += abs(row[c])
            if layer > 0:
                part[:] = np.float32(0)
                for c in range(0, stride, LANES):
                    for k in range(LANES):
                        part[k] += abs(row[c + k])
                going[layers[layer - 1, OUTPUTS] + i] = part.sum()
        for c in range(len(sums)):
            sums[c] /= np.float32(layers[layer, FAN_IN])


@compiled
def carry_back(parameters, layers, examples, rows, gradient, active, counts, delta):
    """Go on where ``raw`` ended with the loss's ``gradient (n, classes)`` by the scores: fill delta.

    Whoever made it may have written to the table: returns −1 − the place of a wrong example, or that of the first
    gradient that is not finite, or how many.
    """
    wrong = _first_wrong(rows, examples, layers, active, delta, False)
    if wrong >= 0:
        return -1 - wrong
    scores = layers[len(layers) - 1, OUTPUTS]
    for i in range(len(rows)):
        total = np.float32(0)
        for c in range(delta.shape[1] - scores):
            delta[i, scores + c] = gradient[i, c] if c < gradient.shape[1] else np.float32(0)
            total += delta[i, scores + c] * np.float32(0)
        if total != 0:
            return i
        units, _, on, deltas = _workspace(active, active, counts, delta, i)
        _backward(parameters, layers, examples[rows[i], TASK], units, on, deltas)
    return len(rows)


@compiled
def backward(
    parameters, layers, examples, index, value, rows, active, activation, counts, delta, starts, columns, values, places
):
    """Fill row i of the workspace for the example ``rows[i]``. Returns how many were done before a bad loss.

    Where they are sorted, its inputs are those of image ``places[i]`` in strips as `scores` takes them.
    """
    wrong = _first_wrong(rows, examples, layers, active, delta, True)
    if wrong >= 0:
        return -1 - wrong
    masks, last, width, stride = _masks(active, delta), len(layers) - 1, delta.shape[1], layers[0, STRIDE]
    scores, flat = layers[last, OUTPUTS], delta.reshape(-1)
    for begin in range(0, len(rows), NEAR):
        of = rows[begin : begin + NEAR]
        if len(starts) == 0:
            _first_layer(parameters, layers, examples, index, value, of, counts[begin:], delta[begin:])
        else:
            for i in range(begin, begin + len(of)):
                _copy_row(parameters, layers[0, BIASES], delta, i * width + layers[0, OUTPUTS], stride)
            for strip in range(len(starts)):
                _sum_images(
                    stride, parameters, starts[strip], columns, values, places[begin:], len(of), width,
                    flat[begin * width :],
                )  # fmt: skip
        # Each pass over all of them: what the next one asks for is then known, and no branch waits for a sum.
        for i in range(begin, begin + len(of)):
            task = examples[rows[i], TASK]
            _forward_from_second(parameters, layers, task, *_workspace(active, activation, counts, delta, i))
        for i in range(begin, begin + len(of)):
            deltas = _at(delta, i * width)
            _mask(layers, examples[rows[i], TASK], deltas, masks)
            label = examples[rows[i], LABEL]
            if not _loss_gradient(_at(deltas, scores), layers[last, STRIDE], layers[last, FAN_OUT], label):
                return i
        for i in range(begin, begin + len(of)):
            units, _, on, deltas = _workspace(active, activation, counts, delta, i)
            _backward(parameters, layers, examples[rows[i], TASK], units, on, deltas)
    return len(rows)


@_inlined
def _add_behind_first(target, layers, examples, rows, weights, active, activation, counts, delta):
    """Add the gradients of all but the first layer's weights."""
    for i in range(len(rows)):
        task = examples[rows[i], TASK]
        _add_to_rows(
            layers[0, STRIDE], target, np.int64(0), layers[0, BIASES] + task * layers[0, TASK_STRIDE],
            active, activation, np.int64(0), weights[i], _at(delta, i * delta.shape[1] + layers[0, OUTPUTS]),
        )  # fmt: skip
        for layer in range(1, len(layers)):
            own, before = task * layers[layer, TASK_STRIDE], layers[layer - 1, OUTPUTS]
            _add_to_rows(
                layers[layer, STRIDE], target, layers[layer, WEIGHTS] + own, layers[layer, BIASES] + own,
                _at(active, i * delta.shape[1] + before), _at(activation, i * delta.shape[1] + before),
                counts[i, layer - 1], weights[i], _at(delta, i * delta.shape[1] + layers[layer, OUTPUTS]),
            )  # fmt: skip


@_inlined
def _transpose(examples, index, value, row, lane, transposed, present):
    """Enter an example's inputs into one lane of a transposed block."""
    for j in range(examples[row, COUNT]):
        k = np.uint64(index[row, j])
        transposed[k * np.uint64(BLOCK) + np.uint64(lane)] = value[row, j]
        present[k] |= np.uint32(1 << lane)


@compiled
def add_gradients(
    target, fresh, layers, examples, index, value, rows, weights, active, activation, counts, delta, dual, rule, given
):  # fmt: skip
    """target += Σ weights[i] · gradient of the loss of ``rows[i]``, row i of the workspace being its backward pass.

    What is in a ``fresh`` target counts as zero: it is cleared as it comes into the near cache. Where ``dual`` has
    room, the inputs of 32 examples are transposed, so that each row is written once for them.
    With a ``rule``, ``given`` to it but for the gradient, no layer is private, and the rows are one block. Each strip
    of their gradient then is in the same place, in ``target``, until the rule has taken it, and so is the rest.
    """
    last, stride, strips = len(layers) - 1, layers[0, STRIDE], fresh and layers[0, COPIES] == 0
    at, strip = np.int64(given[GRADIENT]), RULED if rule != 0 else STRIP
    rest = layers[0, BIASES] - strip * stride if rule != 0 else np.int64(0)
    transposed, present, _, change, _, _, _, _ = dual
    blocks = len(present) > 0 and len(rows) >= FEWEST
    at_once = BLOCK if blocks else max(len(rows), 1)
    if fresh:
        _clear(target, layers[0, BIASES] - rest if strips else 0, len(target))
    for begin in range(0, len(rows), at_once):
        n = min(at_once, len(rows) - begin)
        for i in range(begin, begin + n):
            counts[i, last] = 0
            if blocks:
                _transpose(examples, index, value, rows[i], i - begin, transposed, present)
                for column in range(0, stride, LANES):
                    row = _load_lanes(delta[i], layers[0, OUTPUTS] + column)
                    scaled = _multiply_add_lanes(weights[i], row, _nothing_lanes())
                    _store_lanes(change, (i - begin) * stride + column, scaled)
        for end in range(strip, layers[0, FAN_IN] + strip, strip):
            to, moved = min(end, layers[0, FAN_IN]), (end - strip) * stride if rule != 0 else np.int64(0)
            part = _at(target, -moved)
            if strips and begin == 0:
                _clear(part, (end - strip) * stride, to * stride)
            if blocks:
                _update_strip(
                    stride, part, end - strip, to, transposed, present, np.int64(-1), change, part, present, False
                )
            else:
                _add_strip(
                    stride, part, layers, end, examples, index.shape[1], index, value, rows, len(rows), counts,
                    counts.shape[1], delta, delta.shape[1], weights,
                )  # fmt: skip
            if rule != 0:
                given[GRADIENT] = at - moved * 4
                _call(rule, (end - strip) * stride // LANES, to * stride // LANES, given)
    _add_behind_first(_at(target, -rest), layers, examples, rows, weights, active, activation, counts, delta)
    if rule != 0:
        given[GRADIENT] = at - rest * 4
        _call(rule, layers[0, BIASES] // LANES, (rest + len(target)) // LANES, given)


@compiled
def look_ahead(
    parameters, layers, examples, index, value, rows, judges, rates, weights, active, activation, counts, delta,
    undo, touched, stamps, meta, slope, moved, one,
):  # fmt: skip
    """What `Learner.look_ahead` says, where no layer is private, by the additions that whole gradients would take.

    Of the first layer no gradient is formed on the way: of each step only the rows of its inputs move, and of the steps
    and the judges the deltas are kept, from which both sums are made at the end, an input at a time.
    ``weights`` are the judges' shares, and the step's. Returns how many passes, of a row and then of all judges, were
    done before a bad loss, or −1 − the place of a wrong example among these.
    """
    n, many, stride, fan_in, last = len(rows), len(judges), layers[0, STRIDE], layers[0, FAN_IN], len(layers) - 1
    for which in range(2):
        wrong = _first_wrong(judges if which else rows, examples, layers, active, delta, True)
        if wrong >= 0:
            return -1 - (1 + wrong if which else wrong * (many + 1))
    masks, of, scores, behind = _masks(active, delta), layers[0, OUTPUTS], layers[last, OUTPUTS], layers[0, BIASES]
    kept = np.empty(stride * n * (many + 1), np.float32)  # by 16 columns, step, and judge; the step's own are last
    _copy_row(parameters, behind, undo, behind, len(parameters) - behind)
    for vector in (meta, slope, moved):
        _clear(vector, behind, len(vector))
    done = changed = np.int64(0)
    good = True
    for i in range(2 * n):
        judging = i % 2 == 1
        given, begin = (judges, 0) if judging else (rows[i // 2 : i // 2 + 1], many)
        _first_layer(parameters, layers, examples, index, value, given, counts[begin:], delta[begin:])
        for q in range(len(given)):
            row, at = given[q], begin + q
            task = examples[row, TASK]
            units, values, on, deltas = _workspace(active, activation, counts, delta, at)
            _forward_from_second(parameters, layers, task, units, values, on, deltas)
            _mask(layers, task, deltas, masks)
            good = _loss_gradient(
                _at(deltas, scores), layers[last, STRIDE], layers[last, FAN_OUT], examples[row, LABEL]
            )
            if not good:
                break
            _backward(parameters, layers, task, units, on, deltas)
            for column in range(0, stride, LANES):
                place = ((column // LANES * n + i // 2) * (many + 1) + at) * LANES
                scaled = _multiply_add_lanes(weights[at], _load_lanes(delta[at], of + column), _nothing_lanes())
                _store_lanes(kept, place, scaled)
            done += 1
        if not good:
            break
        _clear(one, behind, len(one))
        _add_behind_first(
            one, layers, examples, given, weights[begin:], active[begin:], activation[begin:], counts[begin:],
            delta[begin:],
        )  # fmt: skip
        g, gone = one[behind:], moved[behind:]
        if judging:
            sums, products = meta[behind:], slope[behind:]
            for k in range(len(g)):
                sums[k] += g[k]
                products[k] += g[k] * gone[k]
        else:
            theta, rate = parameters[behind:], rates[behind:]
            for k in range(len(g)):
                gone[k] += g[k]
                theta[k] -= max(rate[k], np.float32(0)) * g[k]
            for j in range(examples[given[0], COUNT]):
                k, x = np.int64(index[given[0], j]), value[given[0], j]
                at, d = k * stride, delta[many, of:]
                if stamps[k] == 0:
                    stamps[k], touched[changed] = 1, k
                    changed += 1
                    _copy_row(parameters, at, undo, at, stride)
                theta, rate = parameters[at : at + stride], rates[at : at + stride]
                for c in range(len(theta)):
                    theta[c] -= max(rate[c], np.float32(0)) * (x * d[c])
    _copy_row(undo, behind, parameters, behind, len(parameters) - behind)
    for j in range(changed):
        stamps[touched[j]] = 0
        _copy_row(undo, touched[j] * stride, parameters, touched[j] * stride, stride)
    if not good:
        return done
    ends, own = np.zeros(fan_in + 1, np.int64), np.zeros((fan_in, n), np.float32)
    for row in judges:
        for j in range(examples[row, COUNT]):
            ends[index[row, j] + 1] += 1
    for k in range(fan_in):
        ends[k + 1] += ends[k]
    who, x = np.empty(ends[fan_in], np.int64), np.empty(ends[fan_in], np.float32)
    for q in range(many - 1, -1, -1):  # from the last on, each before those that are there
        for j in range(examples[judges[q], COUNT]):
            k = np.int64(index[judges[q], j]) + 1
            ends[k] -= 1
            who[ends[k]], x[ends[k]] = q * LANES, value[judges[q], j]
    for i in range(n):
        for j in range(examples[rows[i], COUNT]):
            own[index[rows[i], j], i] = value[rows[i], j]
    for column in range(0, stride, LANES):
        for k in range(fan_in):
            total, product, steps = _nothing_lanes(), _nothing_lanes(), _nothing_lanes()
            begin, end = ends[k + 1], ends[k + 2] if k + 2 <= fan_in else np.int64(len(who))
            if end > begin:
                for i in range(0, n, 2):  # two at a time: neither then waits for its own last sum
                    at = (column // LANES * n + i) * (many + 1) * LANES
                    both, after = _nothing_lanes(), at + (many + 1) * LANES * (i + 1 < n)
                    judged = _nothing_lanes()
                    for j in range(begin, end):
                        judged = _multiply_add_lanes(x[j], _load_lanes(kept, at + who[j]), judged)
                        both = _multiply_add_lanes(x[j], _load_lanes(kept, after + who[j]), both)
                    for q in range(i, min(i + 2, n)):
                        if q > i:
                            judged, at = both, after
                        total = _multiply_add_lanes(np.float32(1), judged, total)
                        if own[k, q] != 0:
                            step = _multiply_add_lanes(
                                own[k, q], _load_lanes(kept, at + many * LANES), _nothing_lanes()
                            )
                            steps = _multiply_add_lanes(np.float32(1), step, steps)
                        product = _add_product(judged, steps, product)
            _store_lanes(meta, k * stride + column, total)
            _store_lanes(slope, k * stride + column, product)
    return done


@compiled
def add_sorted_gradients(
    target, layers, examples, rows, weights, active, activation, counts, delta, ends, who, x, change
):
    """Do what `add_gradients` does of a fresh target, where inputs are sorted: each row is written once a block.

    Input k is not zero in the rows ``who`` of block b, of MANY, and has the values ``x``, up to ``ends[b, k]``, where
    the next one's begin. ``change`` has room for one row more than a block, of zeros.
    """
    stride, of, at = layers[0, STRIDE], layers[0, OUTPUTS], np.int64(0)
    _clear(target, layers[0, BIASES], len(target))
    for block in range(len(ends)):
        begin = block * MANY
        for i in range(min(MANY, len(rows) - begin)):
            for column in range(0, stride, LANES):
                row = _load_lanes(delta[begin + i], of + column)
                scaled = _multiply_add_lanes(weights[begin + i], row, _nothing_lanes())
                _store_lanes(change, i * stride + column, scaled)
        for k in range(ends.shape[1]):
            count, place = ends[block, k] - at, layers[0, WEIGHTS] + k * stride
            if count > 0 or block == 0:
                before, begin = (target, place) if block > 0 else (change, MANY * stride)
                _sum_rows(stride, change, np.int64(0), before, begin, who[at:], x[at:], count, target[place:])
            at += count
    _add_behind_first(target, layers, examples, rows, weights, active, activation, counts, delta)


@_inlined
def _spread(dense, layers, index, value, count, active, activation, counts, on):
    """Write an example's inputs to every layer into a row of zeros, or take them out again."""
    offset = 0
    for layer in range(len(layers)):
        if layer == 0:
            for k in range(count):
                dense[index[k]] = value[k] * on
        else:
            before = layers[layer - 1, OUTPUTS]
            for k in range(counts[layer - 1]):
                dense[offset + active[before + k]] = activation[before + k] * on
        offset += layers[layer, FAN_IN]


@_inlined
def _sparse_dot(dense, index, value, count):
    """Σ dense[index] · value, in four sums, since one alone would wait for itself."""
    one = two = three = four = np.float32(0)
    whole = count & ~3
    for k in range(0, whole, 4):
        one += dense[index[k]] * value[k]
        two += dense[index[k + 1]] * value[k + 1]
        three += dense[index[k + 2]] * value[k + 2]
        four += dense[index[k + 3]] * value[k + 3]
    for k in range(whole, count):
        one += dense[index[k]] * value[k]
    return (one + two) + (three + four)


@compiled
def spread(layers, examples, index, value, rows, active, activation, counts, dense):
    """Write into zeros the inputs of ``rows`` to every layer, row i of the workspace being its forward pass."""
    for i in range(len(rows)):
        _spread(
            dense[i], layers, index[rows[i]], value[rows[i]], examples[rows[i], COUNT], active[i], activation[i],
            counts[i], np.float32(1),
        )  # fmt: skip


@compiled
def dots(layers, examples, index, value, rows, place, active, activation, counts, delta, dense, out):
    """⟨∇ of ``rows[place]``, ∇ of ``rows[i]``⟩ added to ``out[i]``, row i of the workspace being its backward pass.

    In each layer both are an outer product, so the product of the two is (inputs · inputs + 1)(delta · delta).
    ``dense``, as long as all layers' inputs together, is zero, and is so again on return.
    """
    one, first, total = rows[place], np.zeros(1, np.int64), np.zeros(1, np.float32)
    for on in (np.float32(1), np.float32(0)):
        _spread(
            dense, layers, index[one], value[one], examples[one, COUNT], active[place], activation[place],
            counts[place], on,
        )  # fmt: skip
        for i in range(len(rows) if on > 0 else 0):
            row, offset = rows[i], np.int64(0)
            _prefetch_example(examples, index, value, rows[min(i + 4, len(rows) - 1)])
            for layer in range(len(layers)):
                if layers[layer, TASK_STRIDE] == 0 or examples[one, TASK] == examples[row, TASK]:
                    if layer == 0:
                        inputs = _sparse_dot(dense, index[row], value[row], examples[row, COUNT])
                    else:
                        before = layers[layer - 1, OUTPUTS]
                        units, values = active[i, before:], activation[i, before:]
                        inputs = _sparse_dot(dense[offset:], units, values, counts[i, layer - 1])
                    of, total[0] = layers[layer, OUTPUTS], np.float32(0)
                    _dot_rows(layers[layer, STRIDE], delta[place], of, first, 1, delta[i, of:], total)
                    out[i] += (np.float64(inputs) + 1) * np.float64(total[0])
                offset += layers[layer, FAN_IN]


@compiled
def along(
    vector, layers, examples, index, value, rows, which, active, activation, counts, delta, starts, columns, values,
    places, outputs, out,
):  # fmt: skip
    """⟨∇ of ``rows[i]``, vector⟩ into ``out[i]``, row ``which[i]`` of the workspace being its backward pass.

    In each layer that is delta · (the vector's weights times the inputs, and its biases).
    ``outputs (MANY, stride)`` holds what the first layer would give with the vector for weights, strip by strip; for
    the others see `backward`.
    """
    last, stride, flat = len(layers) - 1, layers[0, STRIDE], outputs.reshape(-1)
    first, total = np.zeros(1, np.int64), np.zeros(1, np.float32)
    scratch = np.zeros(delta.shape[1], np.float32)
    for begin in range(0, len(rows), MANY):
        of = rows[begin : begin + MANY]
        for i in range(len(of)):
            own = examples[of[i], TASK] * layers[0, TASK_STRIDE]
            if len(starts) == 0:
                _prefetch_example(examples, index, value, of[i])
            _copy_row(vector, layers[0, BIASES] + own, outputs[i], 0, stride)
            counts[i, last] = 0
        if len(starts) == 0:
            for end in range(STRIP, layers[0, FAN_IN] + STRIP, STRIP):
                _sum_strip(
                    stride, vector, layers, end, examples, index.shape[1], index, value, of, len(of), counts,
                    counts.shape[1], outputs, outputs.shape[1],
                )  # fmt: skip
        for strip in range(len(starts)):
            _sum_images(stride, vector, starts[strip], columns, values, places[begin:], len(of), stride, flat)
        for i in range(len(of)):
            task, row = examples[of[i], TASK], which[begin + i]
            mine = delta[row]
            total[0] = 0
            _dot_rows(stride, outputs[i], np.int64(0), first, 1, mine[layers[0, OUTPUTS] :], total)
            for layer in range(1, len(layers)):
                own, before = task * layers[layer, TASK_STRIDE], layers[layer - 1, OUTPUTS]
                _sum_rows(
                    layers[layer, STRIDE], vector, layers[layer, WEIGHTS] + own, vector, layers[layer, BIASES] + own,
                    active[row, before:], activation[row, before:], counts[row, layer - 1], scratch,
                )  # fmt: skip
                _dot_rows(layers[layer, STRIDE], scratch, np.int64(0), first, 1, mine[layers[layer, OUTPUTS] :], total)
            out[begin + i] = total[0]


@compiled
def gram(vectors, sums, out):
    """vectors · vectorsᵀ into ``out (n, n)``: four by four, a part of their length at a time.

    ``sums``, zeros, has room for 256 floats for each pair of the ⌈n / 4⌉ fours; n is at least 4.
    """
    (n, length), flat, sides = vectors.shape, vectors.reshape(-1), -(-len(vectors) // SIDE)
    side, one = SIDE * LANES, np.ones(LANES, np.float32)
    for begin in range(0, length, PART):
        to = np.int64(0)
        for i in range(sides):
            a = min(i * SIDE, n - SIDE) * length
            for j in range(i + 1):
                b = min(j * SIDE, n - SIDE) * length
                first, second = _load_tile(sums, to), _load_tile(sums, to + side)
                third, fourth = _load_tile(sums, to + 2 * side), _load_tile(sums, to + 3 * side)
                for k in range(begin, min(begin + PART, length), LANES):
                    rows = _load_rows(flat, b + k, length)
                    first = _add_products(_load_lanes(flat, a + k), rows, first)
                    second = _add_products(_load_lanes(flat, a + length + k), rows, second)
                    third = _add_products(_load_lanes(flat, a + 2 * length + k), rows, third)
                    fourth = _add_products(_load_lanes(flat, a + 3 * length + k), rows, fourth)
                _store_tile(sums, to, first)
                _store_tile(sums, to + side, second)
                _store_tile(sums, to + 2 * side, third)
                _store_tile(sums, to + 3 * side, fourth)
                to += SIDE * side
    to = np.int64(0)
    for i in range(sides):
        for j in range(i + 1):
            for p in range(SIDE * SIDE):
                a, b = min(i * SIDE, n - SIDE) + p // SIDE, min(j * SIDE, n - SIDE) + p % SIDE
                out[a, b] = out[b, a] = _dot_lanes(_load_lanes(sums, to), _load_lanes(one, 0))
                to += LANES


@compiled
def fold(block, index_map, folded):
    """Add up the first layer's rows by the base pixel that each input shows: ``folded (pixels + 1, stride)``.

    Both end with a row of biases. W·(pixels through the map) = (W folded by the map)·pixels: no image is ever rotated
    or permuted to be tested on.
    """
    width, inputs, last = folded.shape[1], len(index_map), len(folded) - 1
    for i in range(last + 1):
        for j in range(width):
            folded[i, j] = block[inputs, j] if i == last else np.float32(0)
    for i in range(inputs):
        if index_map[i] >= 0:
            for j in range(width):
                folded[index_map[i], j] += block[i, j]


@compiled
def scores(
    first, parameters, layers, task, starts, columns, values, rows, active, activation, counts, delta, outputs, out
):
    """Unrestricted scores into ``out (len(rows), classes)`` of base images ``rows``.

    The images are given by their non-zeros in strips of pixels; ``first`` is the first layer, folded. A strip's rows of
    it stay in the nearest cache while a group of images, whose first layer's ``outputs (group, stride)`` grow strip by
    strip, passes over them.
    """
    stride, segment = layers[0, STRIDE], layers[len(layers) - 1, OUTPUTS]
    group, workspace = len(outputs), _workspace(active, activation, counts, delta, np.int64(0))
    flat = outputs.reshape(-1)
    for begin in range(0, len(rows), group):
        size = min(group, len(rows) - begin)
        for i in range(size):
            _copy_row(first, len(first) - stride, flat, i * stride, stride)  # biases, which `fold` puts last
        for strip in range(len(starts)):
            _sum_images(stride, first, starts[strip], columns, values, rows[begin : begin + size], size, stride, flat)
        for i in range(size):
            _copy_row(flat, i * stride, delta, layers[0, OUTPUTS], stride)
            _forward_from_second(parameters, layers, task, *workspace)
            for c in range(out.shape[1]):
                out[begin + i, c] = delta[0, segment + c]


@compiled
def put(examples, index, value, rows, x, y, task, inputs):
    """Write dense examples ``x (n, inputs)`` into slots ``rows (n,)`` as lists of their non-zero inputs.

    False, with nothing written, if a shape is another, or the lists have no room for them and one more.
    """
    if len(x) != len(rows) or len(y) != len(rows) or x.shape[1] != inputs:
        return False
    if index.shape[1] < inputs:
        for i in range(len(rows)):
            room = index.shape[1]
            for j in range(inputs):
                room -= x[i, j] != 0
            if room <= 0:
                return False
    _require_slots(rows, len(examples))
    for i in range(len(rows)):
        _put(examples[rows[i]], index[rows[i]], value[rows[i]], x[i], y[i], task)
    return True


@compiled
def copy(examples, index, value, source, target):
    """Copy one slot to another, as many inputs as it has."""
    _require_slot(source, len(examples))
    _require_slot(target, len(examples))
    count = examples[source, COUNT]
    _copy(index[source], index[target], count)
    _copy(value[source], value[target], count)
    _copy(examples[source], examples[target], examples.shape[1])
