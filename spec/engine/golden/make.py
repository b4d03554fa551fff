# SPDX-License-Identifier: MIT
"""Makes the golden files beside it, by NumPy and safetensors (2.4.6 and 0.8.0 when it was run):

    python3 spec/engine/golden/make.py

Element i of an array is i - 3, of unsigned ones i; True, False, True... of bool ones."""
import io
import os
import numpy as np
from numpy.lib import format as npy
from safetensors.numpy import save_file

os.chdir(os.path.dirname(os.path.abspath(__file__)))


def seq(shape, dtype):
    first = 0 if np.dtype(dtype).kind == 'u' else -3
    count = int(np.prod(shape))
    return np.arange(first, first + count).astype(dtype).reshape(shape)


np.save('f4.npy', seq((2, 3), '<f4'))
np.save('f8_fortran.npy', np.asfortranarray(seq((2, 3, 4), '<f8')))
np.save('i4_big.npy', seq((5,), '>i4'))
np.save('f2_big_fortran.npy', np.asfortranarray(seq((3, 2), '>f2')))
np.save('scalar.npy', seq((), '<i8'))
np.save('empty.npy', seq((0, 3), '<f4'))
np.save('bool.npy', np.array([True, False, True]))
for version in (2, 3):
    with open(f'version{version}.npy', 'wb') as file:
        npy.write_array(file, seq((2, 2), 'i1'), version=(version, 0))

np.savez('stored.npz', w=seq((2, 3), '<f4'), b=seq((4,), '<i8'))
np.savez_compressed('deflated.npz', w=seq((40, 50), '<f4'), **{'größe/x': seq((3,), 'u1')})


class Pipe(io.RawIOBase):
    """Cannot seek: so members' sizes stand behind them, in data descriptors."""
    def __init__(self):
        self.bytes = b''

    def writable(self):
        return True

    def write(self, data):
        self.bytes += bytes(data)
        return len(data)


pipe = Pipe()
np.savez(pipe, w=seq((2, 3), '<f4'))
with open('streamed.npz', 'wb') as file:
    file.write(pipe.bytes)

save_file({'f32': seq((2, 3), 'f4'), 'f64': seq((2,), 'f8'), 'f16': seq((3,), 'f2'),
           'i8': seq((3,), 'i1'), 'u8': seq((3,), 'u1'), 'i32': seq((1, 2), 'i4'),
           'i64': seq((), 'i8'), 'bool': np.array([True, False]), 'empty': seq((0, 4), 'f4')},
          'all.safetensors', metadata={'format': 'np', 'quote "\\/\n': 'zwölf €'})
