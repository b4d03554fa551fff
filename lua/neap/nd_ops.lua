-- SPDX-License-Identifier: MIT
--- Arithmetic element by element: operators, in-place methods, functions.
--
-- All of it is queued and returns at once. Each function here reads its operands, fills the
-- argument buffers and makes one call; nothing is allocated but the result, so that loops
-- over it compile. Broadcasting is NumPy's. Dtypes never mix: astype() converts.

local ffi = require 'ffi'
local C = require 'neap.ffi'
local array = require 'neap.array'
local dtype = require 'neap.dtype'
local raise = require 'neap.raise'

---@class neap.nd
local M = {}
---@class neap.Array
local methods = array.methods
local is, adopt, op = array.is, array.adopt, array.op

-- Argument buffers. See array.lua for why they are filled last.
local inputs = ffi.new('neap_array *[3]')
local numbers = ffi.new('double[8]')
local out = ffi.new('neap_array *[1]')

--- The handle and the number that an operand stands for: one of the two is nil or 0.
local function operand(x, where)
  if is(x) then return array.handle(x, where), 0 end
  if type(x) == 'number' then return nil, x end
  if ffi.istype('int64_t', x) or ffi.istype('uint64_t', x) then return nil, tonumber(x) end
  raise.raise('%s: an array or a number is wanted, not %s', where, raise.describe(x))
end

--- One call of the library for two operands; `into` is the array to write, or nil for a new
-- one.
local function binary(number, where, a, b, into)
  local ha, na = operand(a, where)
  local hb, nb = operand(b, where)
  if ha == nil then
    if hb == nil then raise.raise('%s: at least one array is wanted', where) end
    dtype.check_number(b._info.dtype, na, where)
  elseif hb == nil then
    dtype.check_number(a._info.dtype, nb, where)
  end
  inputs[0], inputs[1] = ha, hb
  numbers[0], numbers[1] = na, nb
  out[0] = into
  if C.neap_map(number, inputs, numbers, out) ~= 0 then raise.raise_last() end
end

local function define_binary(name, where)
  local number = op(name)
  where = where or name
  M[name] = function(a, b)
    binary(number, where, a, b, nil)
    return (adopt(out[0]))
  end
  return M[name]
end

local function define_in_place(name)
  local number, where = op(name), name .. '_'
  methods[where] = function(self, b)
    binary(number, where, self, b, array.handle(self, where))
    return self
  end
end

local function define_unary(name)
  local number = op(name)
  M[name] = function(a)
    local handle = array.handle(a, name)
    inputs[0], out[0] = handle, nil
    if C.neap_map(number, inputs, numbers, out) ~= 0 then raise.raise_last() end
    return (adopt(out[0]))
  end
  return M[name]
end

-- ---- Element by element --------------------------------------------------------------------

-- Operators, and in-place methods: with arrays (broadcast as in NumPy) and numbers.
---@class neap.Array
---@operator add(neap.Array|number): neap.Array
---@operator sub(neap.Array|number): neap.Array
---@operator mul(neap.Array|number): neap.Array
---@operator div(neap.Array|number): neap.Array float dtypes
---@operator pow(neap.Array|number): neap.Array float dtypes
---@operator unm: neap.Array
---@field add_ fun(self: neap.Array, b: neap.Array|number): neap.Array self += b; gives self
---@field sub_ fun(self: neap.Array, b: neap.Array|number): neap.Array self -= b; gives self
---@field mul_ fun(self: neap.Array, b: neap.Array|number): neap.Array self *= b; gives self
---@field div_ fun(self: neap.Array, b: neap.Array|number): neap.Array self /= b; gives self
local metatype = array.metatype
metatype.__add = define_binary('add', '+')
metatype.__sub = define_binary('sub', '-')
metatype.__mul = define_binary('mul', '*')
metatype.__div = define_binary('div', '/')
metatype.__pow = define_binary('pow', '^')
metatype.__unm = define_unary('neg')

for _, name in ipairs { 'add', 'sub', 'mul', 'div' } do define_in_place(name) end

-- Functions of two operands, arrays (broadcast) or numbers, at least one an array; as methods
-- too, a:maximum(b).
---@class neap.nd
---@field add fun(a: neap.Array|number, b: neap.Array|number): neap.Array a + b
---@field sub fun(a: neap.Array|number, b: neap.Array|number): neap.Array a - b
---@field mul fun(a: neap.Array|number, b: neap.Array|number): neap.Array a * b
---@field div fun(a: neap.Array|number, b: neap.Array|number): neap.Array a / b
---@field pow fun(a: neap.Array|number, b: neap.Array|number): neap.Array a ^ b
---@field maximum fun(a: neap.Array|number, b: neap.Array|number): neap.Array NaN if one is
---@field minimum fun(a: neap.Array|number, b: neap.Array|number): neap.Array NaN if one is
---@field equal fun(a: neap.Array|number, b: neap.Array|number): neap.Array 1 or 0, in a's dtype
---@field greater fun(a: neap.Array|number, b: neap.Array|number): neap.Array 1 or 0
---@field less fun(a: neap.Array|number, b: neap.Array|number): neap.Array 1 or 0
for _, name in ipairs { 'maximum', 'minimum', 'equal', 'greater', 'less' } do
  define_binary(name)
end

-- Functions of one array; as methods too, a:exp(). The first five take float dtypes only.
---@class neap.nd
---@field exp fun(a: neap.Array): neap.Array e to the power of each element
---@field log fun(a: neap.Array): neap.Array the natural logarithm
---@field sqrt fun(a: neap.Array): neap.Array the square root
---@field tanh fun(a: neap.Array): neap.Array the hyperbolic tangent
---@field sigmoid fun(a: neap.Array): neap.Array 1 / (1 + exp(-a))
---@field square fun(a: neap.Array): neap.Array a * a
---@field abs fun(a: neap.Array): neap.Array the absolute value
---@field sign fun(a: neap.Array): neap.Array -1, 0 or 1
---@field relu fun(a: neap.Array): neap.Array the larger of a and 0
---@field neg fun(a: neap.Array): neap.Array -a
for _, name in ipairs {
  'exp', 'log', 'sqrt', 'tanh', 'sigmoid', 'square', 'abs', 'sign', 'relu',
} do
  define_unary(name)
end

local MUL = op 'mul'

--- `self += alpha * b`, in place: in one pass where `b` has the very shape of `self`.
---@param alpha number
---@param b neap.Array|number
---@return neap.Array self
function methods.axpy_(self, alpha, b)
  local handle = array.handle(self, 'axpy_')
  if type(alpha) ~= 'number' then
    raise.raise('axpy_: alpha is a number, not %s', raise.describe(alpha))
  end
  if type(b) == 'number' then
    self:add_(alpha * b)
    return self
  end
  local other = array.handle(b, 'axpy_')
  dtype.check_number(self._info.dtype, alpha, 'axpy_')
  if C.neap_axpy(handle, alpha, other) ~= 0 then
    if array.same_shape(self, b) then raise.raise_last() end
    binary(MUL, 'axpy_', b, alpha, nil) -- broadcasting takes the product as an array
    local product = adopt(out[0])
    self:add_(product)
    product:close()
  end
  return self
end

local WHERE = op 'where'

--- Elements of `a` where `condition` is not 0, else of `b`. All arrays share one dtype.
---@param condition neap.Array
---@param a neap.Array|number
---@param b neap.Array|number
---@return neap.Array
function M.where(condition, a, b)
  local hc = array.handle(condition, 'where')
  local ha, na = operand(a, 'where')
  local hb, nb = operand(b, 'where')
  if ha == nil then dtype.check_number(condition._info.dtype, na, 'where') end
  if hb == nil then dtype.check_number(condition._info.dtype, nb, 'where') end
  inputs[0], inputs[1], inputs[2] = hc, ha, hb
  numbers[0], numbers[1], numbers[2] = 0, na, nb
  out[0] = nil
  raise.check(C.neap_map(WHERE, inputs, numbers, out))
  return (adopt(out[0]))
end

--- self[...] = value[...], broadcast: where(self, value, value), whatever self holds.
---@param self neap.Array
---@param value neap.Array of the same dtype and device
function M.assign(self, value)
  local handle, from = array.handle(self, 'set'), array.handle(value, 'set')
  inputs[0], inputs[1], inputs[2] = handle, from, from
  out[0] = handle
  local status = C.neap_map(WHERE, inputs, numbers, out)
  if status == C.NEAP_ESHAPE then
    raise.raise('set: %s does not broadcast to %s', raise.describe(value), raise.describe(self))
  end
  raise.check(status)
end

local CLIP = op 'clip'

--- Elements below `low` become `low`, above `high` `high`; NaN stays.
---@param a neap.Array
---@param low number may be -math.huge
---@param high number may be math.huge
---@return neap.Array
function M.clip(a, low, high)
  local handle = array.handle(a, 'clip')
  if type(low) ~= 'number' or type(high) ~= 'number' then
    raise.raise('clip: two numbers are wanted, not %s and %s', raise.describe(low),
      raise.describe(high))
  end
  local id = a._info.dtype
  low, high = dtype.bound(id, low), dtype.bound(id, high)
  dtype.check_number(id, low, 'clip')
  dtype.check_number(id, high, 'clip')
  inputs[0], out[0] = handle, nil
  numbers[0], numbers[1], numbers[2] = 0, low, high
  raise.check(C.neap_map(CLIP, inputs, numbers, out))
  return (adopt(out[0]))
end

-- What may be called as a method, a:exp(): all that take an array first.
for _, name in ipairs {
  'exp', 'log', 'sqrt', 'square', 'abs', 'sign', 'tanh', 'sigmoid', 'relu', 'maximum',
  'minimum', 'clip', 'equal', 'greater', 'less',
} do
  methods[name] = M[name]
end

return M
