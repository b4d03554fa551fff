# SPDX-License-Identifier: MIT
"""Neap's files compared with NumPy and safetensors, in both directions: what they write Neap reads
and writes again, what Neap writes they read; every dtype and format, the library by its C API.

    NEAP_LIBRARY=build/dev/libneap.so build/venv/bin/python3 spec/engine/files.py

Exit status 77, with what to install, where numpy or safetensors is missing."""
import ctypes
import io
import itertools
import json
import os
import sys
import tempfile
import zipfile

try:
    import numpy as np
except ImportError:
    print('numpy is missing; .ci/setup installs it, or: apt install python3-numpy')
    sys.exit(77)
try:
    import safetensors
    import safetensors.numpy
except ImportError:
    safetensors = None

# ---- the library, by ctypes ------------------------------------------------------------------

lib = ctypes.CDLL(os.environ.get('NEAP_LIBRARY', 'build/dev/libneap.so'))
lib.neap_error.restype = lib.neap_file_name.restype = lib.neap_file_meta.restype = ctypes.c_char_p
DTYPES = ['float32', 'float64', 'float16', 'bfloat16', 'int8', 'uint8', 'int32', 'int64']
SIZES = dict(zip(DTYPES, [4, 8, 2, 2, 1, 1, 4, 8]))
IN_NUMPY = [d for d in DTYPES if d != 'bfloat16']


class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in
                ('dtype', 'stype', 'device_type', 'device_id', 'ndim', 'itemsize')] + \
               [('size', ctypes.c_int64), ('shape', ctypes.c_int64 * 8)]


lib.neap_array_get_info.restype = ctypes.POINTER(Info)
lib.neap_array_get_info.argtypes = [ctypes.c_void_p]


def call(function, *args):
    if function(*args) != 0:
        raise RuntimeError(lib.neap_error().decode())


context = ctypes.c_void_p()
call(lib.neap_context_create, None, ctypes.byref(context))


class Raw:
    """An array as dtype, shape and bytes: that knows bfloat16, too."""
    def __init__(self, dtype, shape, data):
        self.dtype, self.shape, self.data = dtype, tuple(shape), data

    def __eq__(self, other):
        return (self.dtype, self.shape, self.data) == (other.dtype, other.shape, other.data)

    def __repr__(self):
        return f'{self.dtype}{self.shape}:{self.data[:40].hex()}'

    def numpy(self):
        return np.frombuffer(self.data, self.dtype).reshape(self.shape)


def raw(array):
    """Of a NumPy array, in C's order and of this machine's endianness."""
    dtype = 'uint8' if array.dtype == bool else array.dtype.newbyteorder('=').name
    return Raw(dtype, array.shape, array.astype(array.dtype.newbyteorder('=')).tobytes('C'))


def neap_save(path, arrays, meta=None):
    handles = (ctypes.c_void_p * len(arrays))()
    names = (ctypes.c_char_p * len(arrays))(*[name.encode() for name in arrays])
    for i, array in enumerate(arrays.values()):
        shape = (ctypes.c_int64 * 8)(*array.shape)
        out = ctypes.c_void_p()
        call(lib.neap_array_create, context, DTYPES.index(array.dtype), len(array.shape), shape, 1, 0,
             ctypes.byref(out))
        call(lib.neap_array_write, out, array.data, ctypes.c_size_t(len(array.data)))
        handles[i] = out.value
    pairs = [text.encode() for pair in (meta or {}).items() for text in pair]
    call(lib.neap_file_save, context, path.encode(), len(arrays), names, handles,
         (ctypes.c_char_p * (len(pairs) + 1))(*pairs, None) if meta else None)
    for handle in handles:
        lib.neap_array_close(ctypes.c_void_p(handle))


def neap_load(path):
    file, arrays = ctypes.c_void_p(), {}
    call(lib.neap_file_load, context, path.encode(), ctypes.byref(file))
    for i in range(lib.neap_file_count(file)):
        array = ctypes.c_void_p()
        call(lib.neap_file_array, file, i, ctypes.byref(array))
        info = lib.neap_array_get_info(array).contents
        data = ctypes.create_string_buffer(info.size * info.itemsize)
        call(lib.neap_array_read, array, data, ctypes.c_size_t(len(data)))
        arrays[lib.neap_file_name(file, i).decode()] = \
            Raw(DTYPES[info.dtype], info.shape[:info.ndim], data.raw)
        lib.neap_array_close(array)
    lib.neap_file_close(file)
    return arrays


def neap_meta(path, key):
    file = ctypes.c_void_p()
    call(lib.neap_file_load, context, path.encode(), ctypes.byref(file))
    value = lib.neap_file_meta(file, key.encode())
    lib.neap_file_close(file)
    return value.decode()


# ---- facts -----------------------------------------------------------------------------------

SHAPES = [(), (1,), (7,), (2, 3), (0, 3), (3, 0), (4, 1, 3), (2, 3, 4, 5), (1, 2, 1, 2, 1, 2, 1, 2)]
random = np.random.default_rng(1)


def bits(dtype, shape):
    """Any bytes: NaNs, infinities and subnormals are copied as everything else."""
    return Raw(dtype, shape, random.bytes(int(np.prod(shape)) * SIZES[dtype]))


def same(got, wanted, what):
    checks[0] += 1
    if got != wanted:
        print(f'{what}: got {got!r}, wanted {wanted!r}')
        sys.exit(1)


checks = [0]


def check_npy(path):
    for dtype, shape in itertools.product(IN_NUMPY, SHAPES):
        array = bits(dtype, shape)
        for order, endian in itertools.product('CF', '<>'):
            np.save(path, np.array(array.numpy().astype(array.numpy().dtype.newbyteorder(endian)),
                                   order=order))
            same(neap_load(path), {'': array}, f'npy {dtype} {shape} {order} {endian}')
        neap_save(path, neap_load(path))
        same(raw(np.load(path)), array, f'npy again {dtype} {shape}')
        theirs = io.BytesIO()
        np.save(theirs, array.numpy())
        with open(path, 'rb') as file:
            same(file.read(), theirs.getvalue(), f'npy bytes {dtype} {shape}')
    for version in (1, 0), (2, 0), (3, 0):
        with open(path, 'wb') as file:
            np.lib.format.write_array(file, array.numpy(), version=version)
        same(neap_load(path), {'': array}, f'npy version {version}')
    np.save(path, np.array([True, False]))
    same(neap_load(path), {'': Raw('uint8', (2,), b'\1\0')}, 'npy bool')


def check_npz(path):
    arrays = {f'{dtype} {shape}/ü': bits(dtype, shape)
              for dtype, shape in itertools.product(IN_NUMPY, SHAPES)}
    for save in np.savez, np.savez_compressed:
        save(path, **{name: array.numpy() for name, array in arrays.items()})
        same(neap_load(path), arrays, save.__name__)
    neap_save(path, arrays)
    with zipfile.ZipFile(path) as archive:
        same(archive.testzip(), None, 'npz CRCs')
        same(archive.namelist(), [name + '.npy' for name in arrays], 'npz members')
    with np.load(path) as file:
        same({name: raw(file[name]) for name in file.files}, arrays, 'npz again')
    # Members that zipfile writes as it goes: sizes behind the data, zip64 fields, a comment.
    for force, comment in itertools.product((False, True), (b'', b'PK\5\6 a comment' * 20)):
        with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
            archive.comment = comment
            for name, array in arrays.items():
                with archive.open(name + '.npy', 'w', force_zip64=force) as member:
                    np.save(member, array.numpy())
        same(neap_load(path), arrays, f'npz by zipfile, zip64 {force}, comment {comment}')
    neap_save(path, {})
    with np.load(path) as file:
        same(file.files, [], 'npz without arrays')


def check_safetensors(path):
    meta = {'format': 'np', 'quote "\\/\n\t\x7f': 'zwölf \U0001f319', '': ''}
    arrays = {f'{dtype} {shape}\n"\\ü': bits(dtype, shape)
              for dtype, shape in itertools.product(DTYPES, SHAPES)}
    in_numpy = {name: array for name, array in arrays.items() if array.dtype != 'bfloat16'}

    safetensors.numpy.save_file({name: a.numpy() for name, a in in_numpy.items()}, path, meta)
    same(neap_load(path), in_numpy, 'safetensors')
    for key, value in meta.items():
        same(neap_meta(path, key), value, 'safetensors metadata')
    neap_save(path, neap_load(path), meta)
    again = safetensors.numpy.load_file(path)
    same({name: raw(array) for name, array in again.items()}, in_numpy, 'safetensors again')
    with safetensors.safe_open(path, 'np') as file:
        same(file.metadata(), meta, 'safetensors metadata again')

    # bfloat16, which NumPy has not: by the package's functions for bytes.
    names = dict(zip(('F32', 'F64', 'F16', 'BF16', 'I8', 'U8', 'I32', 'I64'), DTYPES))
    neap_save(path, arrays, meta)
    with open(path, 'rb') as file:
        theirs = safetensors.deserialize(file.read())
    same({name: Raw(names[t['dtype']], t['shape'], bytes(t['data'])) for name, t in theirs}, arrays,
         'safetensors of all dtypes')
    same(neap_load(path), arrays, 'safetensors of all dtypes, by Neap')
    # Aligned where the file is mapped: the elements of each tensor at a multiple of their size.
    with open(path, 'rb') as file:
        start = int.from_bytes(file.read(8), 'little')
        header = json.loads(file.read(start))
    for name, array in arrays.items():
        same((8 + start + header[name]['data_offsets'][0]) % SIZES[array.dtype], 0, f'place of {name}')

    safetensors.numpy.save_file({'b': np.array([True, False])}, path)
    same(neap_load(path), {'b': Raw('uint8', (2,), b'\1\0')}, 'safetensors bool')
    neap_save(path, {}, None)
    same(safetensors.numpy.load_file(path), {}, 'safetensors without arrays')


with tempfile.TemporaryDirectory() as folder:
    check_npy(folder + '/a.npy')
    check_npz(folder + '/a.npz')
    if safetensors is not None:
        check_safetensors(folder + '/a.safetensors')
lib.neap_context_close(context)
print(f'{checks[0]} comparisons, all the same')
if safetensors is None:
    print('safetensors is missing, and was not compared with; .ci/setup installs it to build/venv')
    sys.exit(77)
