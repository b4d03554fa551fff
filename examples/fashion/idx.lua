-- SPDX-License-Identifier: MIT
--- Reads idx files, the format of MNIST and its relatives, gzipped or plain.
--
-- All numbers are big-endian: two zero bytes, the type (8: uint8), the number of dimensions,
-- each dimension as 4 bytes, then the elements. zlib does the unpacking and checks the sum
-- at the file's end; a file that is not gzipped it hands through.

local bit = require 'bit'
local ffi = require 'ffi'

ffi.cdef [[
typedef struct gzFile_s *gzFile;
gzFile gzopen(const char *path, const char *mode);
int gzread(gzFile file, void *to, unsigned size);
int gzclose(gzFile file);
const char *gzerror(gzFile file, int *number);
]]

local M = {}

local UINT8 = 8
local LARGEST = 2 ^ 28 -- bytes; whatever a header says, no more is asked of memory

-- The library without the development package's link has its version in its name.
local function load_zlib()
  local found, zlib = pcall(ffi.load, 'z')
  return found and zlib or ffi.load('libz.so.1')
end
local zlib = load_zlib()

local function big_endian(bytes, at)
  local word = bit.bor(bit.lshift(bytes[at], 24), bit.lshift(bytes[at + 1], 16),
    bit.lshift(bytes[at + 2], 8), bytes[at + 3])
  return word % 2 ^ 32
end

--- Reads `size` bytes, and `more` if there are any: how many came, or nil and what is wrong.
local function fill(file, to, size, more)
  local got = zlib.gzread(file, to, size + more)
  if got >= size then return got end
  if got >= 0 then return nil, 'it ends too early' end
  return nil, (ffi.string(zlib.gzerror(file, ffi.new('int[1]'))):gsub('^.*: ', ''))
end

local function read_open(file, ndim)
  local header = ffi.new('uint8_t[?]', 4 + 4 * ndim)
  local got, why = fill(file, header, 4 + 4 * ndim, 0)
  if not got then return nil, why end
  if header[0] ~= 0 or header[1] ~= 0 or header[2] ~= UINT8 or header[3] ~= ndim then
    return nil, ('it is no idx file of %d dimensions of bytes'):format(ndim)
  end
  local shape, size = {}, 1
  for i = 1, ndim do
    shape[i] = big_endian(header, 4 * i)
    size = size * shape[i]
    if size == 0 or size > LARGEST then return nil, 'its header holds impossible sizes' end
  end
  -- One byte more is asked for, because zlib compares the check sum only when it gets there.
  local bytes = ffi.new('uint8_t[?]', size + 1)
  got, why = fill(file, bytes, size, 1)
  if not got then return nil, why end
  if got > size then return nil, 'it holds more than its header says' end
  return bytes, shape
end

--- Reads a file of uint8 elements in `ndim` dimensions.
---@param path string
---@param ndim integer
---@return ffi.cdata*? bytes uint8_t[], row-major; nil if there is something wrong
---@return integer[]|string shape or what is wrong, in words that follow "the file is damaged:"
---@return boolean? missing true when the file could not be opened at all
function M.read(path, ndim)
  local plain, why = io.open(path, 'rb') -- gzopen gives no reason
  if not plain then return nil, why, true end
  plain:close()
  local file = zlib.gzopen(path, 'rb')
  if file == nil then return nil, path .. ': cannot be opened', true end
  local bytes, shape = read_open(file, ndim)
  -- A file that is cut within its check sum is noticed here only.
  if zlib.gzclose(file) ~= 0 and bytes then return nil, 'it ends too early' end
  return bytes, shape
end

return M
