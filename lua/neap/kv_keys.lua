-- SPDX-License-Identifier: MIT
--- Keys of stores: strings and integers up to 2^53, as Lua, the library and files have them.

local ffi = require 'ffi'
local raise = require 'neap.raise'

local M = {}

local key_t = ffi.typeof('neap_key[1]')
local keys_t = ffi.typeof('neap_key[?]')
local LARGEST = 2 ^ 53

-- ---- For the library -----------------------------------------------------------------------

local function fill(to, key, where)
  if type(key) == 'string' then
    to.text, to.length, to.number = key, #key, 0
  elseif type(key) == 'number' and key % 1 == 0 and key >= -LARGEST and key <= LARGEST then
    to.text, to.length, to.number = nil, 0, key
  else
    raise.raise('%s: keys are strings or integers up to 2^53, not %s', where, raise.describe(key))
  end
end

--- What a key is in Lua's tables: int64 numbers become Lua's.
---@param key any
---@return any
function M.plain(key)
  if type(key) == 'cdata' and (ffi.istype('int64_t', key) or ffi.istype('uint64_t', key)) then
    return tonumber(key)
  end
  return key
end

--- A C key, neap_key[1]. A text's memory is the Lua string's: hold on to that.
---@param key neap.Key
---@param where string
---@return ffi.cdata*
function M.new(key, where)
  local new = key_t()
  fill(new[0], key, where)
  return new
end

--- The C key of one key: the one that is in `known`, C keys by key, or a new one.
---@param known table<neap.Key, ffi.cdata*>
---@return ffi.cdata*
function M.c_key(known, key, where)
  return known[key] or M.new(key, where)
end

--- The C keys of a list, in one row.
---@param known table<neap.Key, ffi.cdata*>
---@param list neap.Key[]
---@return ffi.cdata*
function M.c_keys(known, list, where)
  local keys = keys_t(math.max(#list, 1))
  for i = 1, #list do
    local one = known[list[i]]
    if one then
      keys[i - 1] = one[0]
    else
      fill(keys[i - 1], list[i], where)
    end
  end
  return keys
end

--- A C key's Lua key.
---@return neap.Key
function M.from_c(key)
  return key.text ~= nil and ffi.string(key.text, key.length) or tonumber(key.number)
end

--- The keys of a call as a list, and whether they were one: a single key is a list of one.
---@param key neap.Key|neap.Key[]
---@return neap.Key[]
---@return boolean many
function M.list(key, where)
  if key == nil then raise.raise('%s: keys are strings or integers, not nil', where) end
  if type(key) ~= 'table' then return { M.plain(key) }, false end
  local list = {}
  for i = 1, #key do list[i] = M.plain(key[i]) end
  if #list == 0 and next(key) ~= nil then
    raise.raise('%s: keys are one key or a list, not a table of names', where)
  end
  return list, true
end

-- ---- For people ----------------------------------------------------------------------------

--- As the library's error texts have it: key 'w1', key 7.
---@param key neap.Key
---@return string
function M.text(key)
  if type(key) == 'number' then return ('key %.0f'):format(key) end
  return ("key '%s'"):format(key:sub(1, 80):gsub('%c', '?'))
end

-- ---- For files -----------------------------------------------------------------------------

--- A text of letters, digits and . _ - : alone; every other byte stands as %XX.
---@param text string
---@return string
function M.encode_text(text)
  return (text:gsub('[^%w._:-]', function(c) return ('%%%02X'):format(c:byte()) end))
end

--- The other way; nil for what encode_text never gives.
---@param text string
---@return string|nil
function M.decode_text(text)
  if text:find('[^%w._:%%-]') or text:gsub('%%%x%x', ''):find('%', 1, true) then return nil end
  return (text:gsub('%%(%x%x)', function(hex) return string.char(tonumber(hex, 16)) end))
end

--- A key as it stands in a file: #7 for a number, else encode_text's.
---@param key neap.Key
---@return string
function M.encode(key)
  if type(key) == 'number' then return ('#%.0f'):format(key) end
  return M.encode_text(key)
end

--- The other way; nil for what encode never gives.
---@param text string
---@return neap.Key|nil
function M.decode(text)
  local number = text:match('^#(%-?%d+)$')
  if number then return tonumber(number) end
  return M.decode_text(text)
end

return M
