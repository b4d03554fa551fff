-- SPDX-License-Identifier: MIT
--- Copies, conversions and views of arrays.
--
-- Views (reshape, slice, at) share the memory of the array they are of, and keep it alive:
-- changing one changes the other, in the order in which the changes were made.

local ffi = require 'ffi'
local C = require 'neap.ffi'
local array = require 'neap.array'
local context = require 'neap.context'
local dtype = require 'neap.dtype'
local raise = require 'neap.raise'

---@class neap.Array
local methods = array.methods
local out = ffi.new('neap_array *[1]')

local STYPES = { default = C.NEAP_DENSE, row_sparse = C.NEAP_ROW_SPARSE }

--- A new array of the same shape, dtype and storage on a device, to be copied to.
local function create_on(self, device_type, device_id)
  local info = self._info
  if info.stype == C.NEAP_DENSE then
    return (array.create(info.dtype, info.ndim, info.shape, device_type, device_id))
  end
  raise.check(C.neap_sparse_create(context.handle(), info.dtype, info.ndim, info.shape,
    device_type, device_id, out))
  return (array.adopt(out[0]))
end

local function copy_to_device(self, device_type, device_id, where)
  local handle = array.handle(self, where)
  local copy = create_on(self, device_type, device_id)
  raise.check(C.neap_array_copy(handle, copy._h))
  return copy
end

--- A new array with the same elements.
---@return neap.Array
function methods:copy()
  local info = array.info(self)
  return (copy_to_device(self, info.device_type, info.device_id, 'copy'))
end

--- Copies the elements into `target`, an array of the same shape and dtype on any device;
-- or into a new array on `target`, a device.
---@param target neap.Array|neap.Device
---@return neap.Array the target
function methods:copyto(target)
  local handle = array.handle(self, 'copyto')
  if context.is_device(target) then
    return (copy_to_device(self, target.code, target.device_id, 'copyto'))
  end
  if not array.is(target) then
    raise.raise('copyto: an array or a device is wanted, not %s', raise.describe(target))
  end
  raise.check(C.neap_array_copy(handle, array.handle(target, 'copyto')))
  return target
end

--- The array itself if it is on `device`, else a copy there.
---@param device neap.Device
---@return neap.Array
function methods:as_in_context(device)
  local info = array.info(self)
  if not context.is_device(device) then
    raise.raise('as_in_context: a device, such as neap.cpu(0), is wanted, not %s',
      raise.describe(device))
  end
  if info.device_type == device.code and info.device_id == device.device_id then return self end
  return (copy_to_device(self, device.code, device.device_id, 'as_in_context'))
end

--- A new array with the elements converted: as a C cast, floats to integers saturating.
---@param name string a dtype
---@return neap.Array
function methods:astype(name)
  local handle = array.handle(self, 'astype')
  if name == nil then raise.raise('astype: a dtype is wanted: %s', dtype.list) end
  local id = dtype.find(name)
  out[0] = nil
  if C.neap_astype(handle, id, out) ~= 0 then raise.raise_last() end
  return (array.adopt(out[0]))
end

--- A new array with the elements stored otherwise; to 'row_sparse', rows that are all zeros
-- are left out.
---@param stype string 'default' or 'row_sparse'
---@return neap.Array
function methods:tostype(stype)
  local handle = array.handle(self, 'tostype')
  local code = STYPES[stype]
  if not code then
    raise.raise("tostype: %s is none; there are 'default' and 'row_sparse'",
      raise.describe(stype))
  end
  out[0] = nil
  raise.check(C.neap_tostype(handle, code, out))
  return (array.adopt(out[0]))
end

--- A view with another shape of as many elements. One dimension may be -1: what remains.
---@param shape integer|integer[]
---@return neap.Array
function methods:reshape(shape, ...)
  local handle = array.handle(self, 'reshape')
  if select('#', ...) > 0 then shape = { shape, ... } end
  local ndim, dimensions = array.read_shape(shape, 'reshape', true)
  raise.check(C.neap_array_reshape(handle, ndim, dimensions, out))
  return (array.adopt(out[0], 0))
end

local function position(i, where)
  if type(i) ~= 'number' or i % 1 ~= 0 or i < -2 ^ 53 or i > 2 ^ 53 then
    raise.raise('%s: a position is an integer, not %s', where, raise.describe(i))
  end
  return i
end

--- A view of rows `first` to `last`, the last not included, of the first dimension. Rows
-- count from 0; negative numbers count from the end.
---@param first integer
---@param last? integer the number of rows by default
---@return neap.Array
function methods:slice(first, last)
  local handle = array.handle(self, 'slice')
  local info = self._info
  if last == nil then last = info.ndim > 0 and tonumber(info.shape[0]) or 0 end
  raise.check(C.neap_array_slice(handle, position(first, 'slice'), position(last, 'slice'), out))
  return (array.adopt(out[0], 0))
end

--- A view of row `i` of the first dimension, with one dimension less. Rows count from 0;
-- negative numbers count from the end.
---@param i integer
---@return neap.Array
function methods:at(i)
  local handle = array.handle(self, 'at')
  if C.neap_array_at(handle, position(i, 'at'), out) ~= 0 then raise.raise_last() end
  return (array.adopt(out[0], 0))
end

return methods
