-- SPDX-License-Identifier: MIT
--- Row-sparse arrays: of a large array, only the rows that are present.
--
-- How many rows that are is known only when the queued work has run, so `indices` and
-- `values` wait. Other than dense arrays, they have no views and no arithmetic; tostype
-- ('default') makes a dense copy.

local ffi = require 'ffi'
local C = require 'neap.ffi'
local array = require 'neap.array'
local context = require 'neap.context'
local dtype = require 'neap.dtype'
local raise = require 'neap.raise'
local values = require 'neap.nd_values'

---@class neap.nd.sparse
local M = {}
local out = ffi.new('neap_array *[1]')

local function check_stype(stype, where)
  if stype ~= 'row_sparse' then
    raise.raise("%s: the storage type is 'row_sparse', not %s", where, raise.describe(stype))
  end
end

local function create(shape, opts, where)
  local id, device_type, device_id = array.read_options(opts, where)
  local ndim, dimensions = array.read_shape(shape, where)
  raise.check(C.neap_sparse_create(context.handle(), id, ndim, dimensions, device_type,
    device_id, out))
  return array.adopt(out[0])
end

--- A row-sparse array without rows: all zeros.
---@param stype string 'row_sparse'
---@param shape integer|integer[]
---@param opts? {dtype: string?, ctx: neap.Device?}
---@return neap.Array
function M.zeros(stype, shape, opts)
  check_stype(stype, 'sparse.zeros')
  return create(shape, opts, 'sparse.zeros')
end

--- Row ids as an int64 array: an integer array is taken as it is, a table is converted.
local function read_ids(ids, device, where)
  if type(ids) == 'table' or type(ids) == 'number' then
    return values.array(ids, { dtype = 'int64', ctx = device })
  end
  array.handle(ids, where)
  if ids.dtype == 'int64' then return ids end
  if not dtype.is_integer(ids._info.dtype) then
    raise.raise('%s: row ids are integers, not %s', where, ids.dtype)
  end
  return ids:astype('int64')
end
M.read_ids = read_ids

--- A row-sparse array of rows and their ids. Ids come in any order; rows of repeated ids
-- are added up. An id out of range is a late error.
---@param data neap.Array|table the rows: of shape (n, rest of shape)
---@param indices neap.Array|integer[] n row ids, from 0
---@param shape integer|integer[]
---@param opts? {dtype: string?, ctx: neap.Device?} the data's by default
---@return neap.Array
function M.row_sparse(data, indices, shape, opts)
  local where = 'sparse.row_sparse'
  local id, device_type, device_id = array.read_options(opts, where)
  if not array.is(data) then
    if type(data) ~= 'table' then
      raise.raise('%s: data is an array or nested tables, not %s', where, raise.describe(data))
    end
    if #data == 0 and type(shape) == 'table' then -- no rows: their shape is not in the table
      local ndim, dimensions = array.read_shape(shape, where)
      dimensions[0] = 0
      data = array.create(id, ndim, dimensions, device_type, device_id)
    else
      data = values.array(data, opts)
    end
  end
  local kind = opts and opts.dtype or data.dtype
  local device = opts and opts.ctx or data.ctx
  if data.dtype ~= kind then data = data:astype(kind) end
  data = data:as_in_context(device)
  local ids = read_ids(indices, device, where):as_in_context(device)
  local result = create(shape, { dtype = kind, ctx = device }, where)
  raise.check(C.neap_sparse_set(result._h, data._h, ids._h))
  return result
end

local function define_field(name, call)
  array.fields[name] = function(self)
    local handle = array.handle(self, name)
    if self._info.stype ~= C.NEAP_ROW_SPARSE then
      raise.raise("%s: the array is dense; tostype('row_sparse') makes a row-sparse one", name)
    end
    out[0] = nil
    raise.check(call(handle, out))
    return array.adopt(out[0])
  end
end

define_field('values', C.neap_sparse_values)
define_field('indices', C.neap_sparse_indices)

--- The rows named, as a new row-sparse array. Ids come in any shape, order and number of
-- repeats; rows that a row-sparse array does not have stay absent.
---@param row_ids neap.Array|integer[]
---@return neap.Array
function array.methods:retain(row_ids)
  local handle = array.handle(self, 'retain')
  local ids = read_ids(row_ids, self.ctx, 'retain')
  out[0] = nil
  raise.check(C.neap_sparse_retain(handle, ids._h, out))
  return array.adopt(out[0])
end

return M
