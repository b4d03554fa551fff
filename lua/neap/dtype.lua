-- SPDX-License-Identifier: MIT
--- Element types: their names, C types and the numbers they can hold.

local ffi = require 'ffi'
local C = require 'neap.ffi'
local raise = require 'neap.raise'

local M = {}

M.id = {}      -- by name, the library's number
M.name = {}    -- by number
M.pointer = {} -- by number, the C type that data() gives
M.ctype = {}   -- by number, of one element
M.list = ''    -- the names, for error texts

-- By number, for integer types only: the range, as doubles. 2^63 itself is out of reach of
-- int64, but the largest double below it is in.
local lowest, highest = {}, {}

local ELEMENTS = {
  float32 = 'float', float64 = 'double', float16 = 'uint16_t', bfloat16 = 'uint16_t',
  int8 = 'int8_t', uint8 = 'uint8_t', int32 = 'int32_t', int64 = 'int64_t',
}
local RANGES = {
  int8 = { -128, 127 }, uint8 = { 0, 255 }, int32 = { -2 ^ 31, 2 ^ 31 - 1 },
  int64 = { -2 ^ 63, 2 ^ 63 - 1024 },
}

local names = {}
for id = 0, C.NEAP_NUM_DTYPES - 1 do
  local name = ffi.string(C.neap_dtype_name(id))
  M.id[name], M.name[id] = id, name
  M.ctype[id] = ffi.typeof(ELEMENTS[name])
  M.pointer[id] = ffi.typeof(ELEMENTS[name] .. ' *')
  if RANGES[name] then lowest[id], highest[id] = RANGES[name][1], RANGES[name][2] end
  names[#names + 1] = name
end
M.list = table.concat(names, ' ')

M.FLOAT32, M.INT64 = M.id.float32, M.id.int64

--- The number of the dtype called `name`; float32 for nil. Raises for anything else.
---@param name? string
---@return integer
function M.find(name)
  if name == nil then return M.FLOAT32 end
  local id = M.id[name]
  if not id then
    raise.raise('dtype: %s is none; there are %s', raise.describe(name), M.list)
  end
  return id
end

--- Whether numbers of this dtype are 16-bit floats, which Lua cannot read by itself.
---@param id integer
---@return boolean
function M.is_half(id) return id == C.NEAP_FLOAT16 or id == C.NEAP_BFLOAT16 end

---@param id integer
---@return boolean
function M.is_integer(id) return lowest[id] ~= nil end

--- Whether an element of dtype `id` can be `value`, a Lua number.
---@param id integer
---@param value number
---@return boolean
function M.holds(id, value)
  local low = lowest[id]
  if not low then return true end
  return value >= low and value <= highest[id] and value % 1 == 0
end

--- Raises unless an element of dtype `id` can be `value`.
---@param id integer
---@param value number
---@param where string what the number is for
function M.check_number(id, value, where)
  if not M.holds(id, value) then
    raise.raise('%s: %s cannot hold %.17g; convert the array first, as by astype(\'float32\')',
      where, M.name[id], value)
  end
end

--- Puts an infinite bound at the end of an integer dtype's range.
---@param id integer
---@param value number
---@return number
function M.bound(id, value)
  if not lowest[id] then return value end
  if value == math.huge then return highest[id] end
  if value == -math.huge then return lowest[id] end
  return value
end

return M
