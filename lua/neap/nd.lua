-- SPDX-License-Identifier: MIT
--- Arrays: neap.nd. Constructors here; the rest of the house:
--
--   array.lua      the object itself: fields, closing, what a handle is
--   nd_ops.lua     arithmetic element by element
--   nd_axes.lua    reductions, products, joining, taking rows
--   nd_values.lua  from and to Lua tables and C pointers
--   nd_views.lua   copies, conversions, views
--   nd_print.lua   tostring
--   nd_files.lua   .npy, .npz, .safetensors
--   random.lua     nd.random      sparse.lua  nd.sparse
--   memory.lua     makes the collector see what arrays hold
--
-- Inside an array positions start at 0 and ranges are half-open; Lua tables start at 1.

local C = require 'neap.ffi'
local array = require 'neap.array'
local axes = require 'neap.nd_axes'
local dtype = require 'neap.dtype'
local files = require 'neap.nd_files'
local ops = require 'neap.nd_ops'
local raise = require 'neap.raise'
local random = require 'neap.random'
local sparse = require 'neap.sparse'
local values = require 'neap.nd_values'
require 'neap.nd_views'
require 'neap.nd_print'

---@class neap.nd
---@field random neap.nd.random
---@field sparse neap.nd.sparse
local M = { random = random, sparse = sparse, array = values.array }

for _, part in ipairs { ops, axes, files } do
  for name, f in pairs(part) do M[name] = f end
end
M.assign = nil -- array:set's own

--- A new array for a constructor's arguments.
local function create(shape, opts, where)
  local id, device_type, device_id = array.read_options(opts, where)
  local ndim, dimensions = array.read_shape(shape, where)
  return (array.create(id, ndim, dimensions, device_type, device_id))
end

local function filled(shape, value, opts, where)
  local result = create(shape, opts, where)
  raise.check(C.neap_array_fill(result._h, value))
  return result
end

--- An array of zeros.
---@param shape integer|integer[] one number for each dimension; {} for a single element
---@param opts? {dtype: string?, ctx: neap.Device?} float32 on cpu(0) by default
---@return neap.Array
function M.zeros(shape, opts) return (filled(shape, 0, opts, 'zeros')) end

--- An array of ones.
---@param shape integer|integer[]
---@param opts? {dtype: string?, ctx: neap.Device?}
---@return neap.Array
function M.ones(shape, opts) return (filled(shape, 1, opts, 'ones')) end

--- An array with nothing assigned yet: what it holds is not defined.
---@param shape integer|integer[]
---@param opts? {dtype: string?, ctx: neap.Device?}
---@return neap.Array
function M.empty(shape, opts) return (create(shape, opts, 'empty')) end

--- An array that holds `value` everywhere; raises for a number that the dtype cannot hold.
---@param shape integer|integer[]
---@param value number
---@param opts? {dtype: string?, ctx: neap.Device?}
---@return neap.Array
function M.full(shape, value, opts)
  if type(value) ~= 'number' then
    raise.raise('full: the value is a number, not %s', raise.describe(value))
  end
  dtype.check_number((array.read_options(opts, 'full')), value, 'full')
  return (filled(shape, value, opts, 'full'))
end

--- The numbers start, start + step, ... before `stop`; with one number, 0, 1, ... before it.
---@param start number
---@param stop? number
---@param step? number 1 by default, may be negative
---@param opts? {dtype: string?, ctx: neap.Device?}
---@return neap.Array of one dimension, max(0, ceil((stop - start) / step)) long
function M.arange(start, stop, step, opts)
  if stop == nil then start, stop = 0, start end
  step = step == nil and 1 or step
  for name, value in pairs { start = start, stop = stop, step = step } do
    if type(value) ~= 'number' or value ~= value or value == math.huge or value == -math.huge then
      raise.raise('arange: %s is a number, not %s', name, raise.describe(value))
    end
  end
  if step == 0 then raise.raise('arange: step is 0') end
  local id = array.read_options(opts, 'arange')
  local n = math.max(0, math.ceil((stop - start) / step))
  dtype.check_number(id, start, 'arange')
  dtype.check_number(id, step < 0 and -step or step, 'arange')
  if n > 0 then dtype.check_number(id, start + (n - 1) * step, 'arange') end
  local result = create(n, opts, 'arange')
  raise.check(C.neap_array_arange(result._h, start, step))
  return result
end

--- Whether `x` is an array.
---@param x any
---@return boolean
M.is_array = array.is

return M
