-- SPDX-License-Identifier: MIT
--- Operations along axes: reductions, softmax, products, reordering, joining, taking rows.
--
-- Axes count from 0; negative ones from the end. Everything is queued and returns at once.

local ffi = require 'ffi'
local C = require 'neap.ffi'
local array = require 'neap.array'
local raise = require 'neap.raise'
local values = require 'neap.nd_values'

---@class neap.nd
local M = {}
local adopt = array.adopt
local out = ffi.new('neap_array *[1]') -- filled last, see array.lua

-- ---- Reductions ----------------------------------------------------------------------------

local ALL = C.NEAP_ALL_AXES

local function read_axis(axis, where)
  if type(axis) ~= 'number' or axis % 1 ~= 0 or axis >= ALL or axis <= -ALL then
    raise.raise('%s: an axis is an integer (0 is the first, -1 the last), not %s', where,
      raise.describe(axis))
  end
  return axis
end

local function define_reduction(name)
  local number = array.op(name)
  M[name] = function(a, axis, keepdims)
    local handle = array.handle(a, name)
    local along = axis == nil and ALL or read_axis(axis, name)
    out[0] = nil
    if C.neap_reduce(number, handle, along, keepdims and 1 or 0, out) ~= 0 then
      raise.raise_last()
    end
    return (adopt(out[0]))
  end
end

-- Along `axis`, or over all of the array without one; the axis is dropped, or kept with
-- length 1. As methods too, a:sum(0).
---@class neap.nd
---@field sum fun(a: neap.Array, axis?: integer, keepdims?: boolean): neap.Array integers: int64
---@field mean fun(a: neap.Array, axis?: integer, keepdims?: boolean): neap.Array float dtypes
---@field max fun(a: neap.Array, axis?: integer, keepdims?: boolean): neap.Array NaN if one is
---@field min fun(a: neap.Array, axis?: integer, keepdims?: boolean): neap.Array NaN if one is
---@field argmax fun(a: neap.Array, axis?: integer, keepdims?: boolean): neap.Array int64, from 0:
-- where the first of the largest is
---@field norm fun(a: neap.Array, axis?: integer, keepdims?: boolean): neap.Array the square root
-- of the sum of squares
for _, name in ipairs { 'sum', 'mean', 'max', 'min', 'argmax', 'norm' } do
  define_reduction(name)
end

-- Along `axis`, the last one by default; the shape stays. As methods too.
---@class neap.nd
---@field softmax fun(a: neap.Array, axis?: integer): neap.Array exp(a) / sum(exp(a))
---@field log_softmax fun(a: neap.Array, axis?: integer): neap.Array its logarithm
for _, name in ipairs { 'softmax', 'log_softmax' } do
  local number = array.op(name)
  M[name] = function(a, axis)
    local handle = array.handle(a, name)
    local along = axis == nil and -1 or read_axis(axis, name)
    out[0] = nil
    raise.check(C.neap_reduce(number, handle, along, 1, out))
    return (adopt(out[0]))
  end
end

-- ---- Products and moves --------------------------------------------------------------------

--- Matrix product of float32 or float64: (m,k) x (k,n). Vectors: (k) x (k) is a number,
-- (m,k) x (k) and (k) x (k,n) are vectors.
---@param a neap.Array
---@param b neap.Array
---@param opts? {ta: boolean?, tb: boolean?} transpose the first, the second, before
---@return neap.Array
function M.dot(a, b, opts)
  local ha, hb = array.handle(a, 'dot'), array.handle(b, 'dot')
  local ta, tb = 0, 0
  if opts ~= nil then
    if type(opts) ~= 'table' then
      raise.raise('dot: options are a table {ta =, tb =}, not %s', raise.describe(opts))
    end
    for name in pairs(opts) do
      if name ~= 'ta' and name ~= 'tb' then
        raise.raise('dot: unknown option %s; there are ta, tb', raise.describe(name))
      end
    end
    ta, tb = opts.ta and 1 or 0, opts.tb and 1 or 0
  end
  out[0] = nil
  if C.neap_dot(ha, hb, ta, tb, out) ~= 0 then raise.raise_last() end
  return (adopt(out[0]))
end

local axes_buffer = ffi.new('int[?]', C.NEAP_MAX_DIM)

--- A copy with its axes in another order; without `axes`, in reverse order.
---@param a neap.Array
---@param axes? integer[] for each axis of the result, the axis of `a` (from 0)
---@return neap.Array
function M.transpose(a, axes)
  local handle = array.handle(a, 'transpose')
  local order = nil
  if axes ~= nil then
    local ndim = a._info.ndim
    if type(axes) ~= 'table' or #axes ~= ndim then
      raise.raise('transpose: a table of all %d axes is wanted, not %s', ndim,
        type(axes) == 'table' and ('one of %d'):format(#axes) or raise.describe(axes))
    end
    for i = 1, ndim do axes_buffer[i - 1] = read_axis(axes[i], 'transpose') end
    order = axes_buffer
  end
  out[0] = nil
  raise.check(C.neap_transpose(handle, order, out))
  return (adopt(out[0]))
end

local function define_joining(name, call)
  M[name] = function(arrays, axis)
    if type(arrays) ~= 'table' then
      raise.raise('%s: a table of arrays is wanted, not %s', name, raise.describe(arrays))
    end
    local count = #arrays
    if count == 0 then raise.raise('%s: a table of at least one array is wanted', name) end
    local along = axis == nil and 0 or read_axis(axis, name)
    local handles = ffi.new('neap_array *[?]', count)
    for i = 1, count do
      handles[i - 1] = array.handle(arrays[i], name)
    end
    out[0] = nil
    raise.check(call(count, handles, along, out))
    return (adopt(out[0]))
  end
end

-- The axis is 0 by default.
---@class neap.nd
---@field concat fun(arrays: neap.Array[], axis?: integer): neap.Array along an axis that is there
---@field stack fun(arrays: neap.Array[], axis?: integer): neap.Array along a new axis
define_joining('concat', C.neap_concat)
define_joining('stack', C.neap_stack)

--- Rows of the first dimension. An index out of range is a late error.
---@param a neap.Array
---@param indices neap.Array|integer[] int32 or int64 (from 0), of any shape
---@return neap.Array of shape indices.shape followed by a.shape[2], ...
function M.take(a, indices)
  local handle = array.handle(a, 'take')
  if type(indices) == 'table' or type(indices) == 'number' then
    indices = values.array(indices, { dtype = 'int64', ctx = a.ctx })
  end
  local ids = array.handle(indices, 'take')
  out[0] = nil
  raise.check(C.neap_take(handle, ids, out))
  return (adopt(out[0]))
end

-- What may be called as a method, a:sum(): all that take an array first.
for _, name in ipairs {
  'sum', 'mean', 'max', 'min', 'argmax', 'norm', 'softmax', 'log_softmax', 'dot', 'transpose',
  'take',
} do
  array.methods[name] = M[name]
end

return M
