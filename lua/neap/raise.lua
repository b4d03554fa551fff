-- SPDX-License-Identifier: MIT
--- Errors, raised at the user's line.
--
-- A mistake in an argument is noticed at whatever depth; a fixed level for error() would
-- blame one of our own lines as soon as a helper is put between. So the stack is walked
-- down to the first function that is not in this folder: that line is the caller's.

local ffi = require 'ffi'
local C = require 'neap.ffi'

local M = {}

-- '@/some/where/lua/neap/': what the sources of this folder begin with.
local HERE = debug.getinfo(1, 'S').source:match('^(@.*[/\\])') or '@'

--- Raises `message`, formatted with what follows it, at the caller's line.
---@param message string
---@param ... any
function M.raise(message, ...)
  if select('#', ...) > 0 then message = message:format(...) end
  local level = 2
  while true do
    local info = debug.getinfo(level, 'S')
    if not info then break end
    -- C functions (pcall, table.sort) have no line to show: go on to who called them.
    if info.what ~= 'C' and info.source:sub(1, #HERE) ~= HERE then break end
    level = level + 1
  end
  error(message, level)
end

--- Raises the text of the last neap_ call that failed.
function M.raise_last()
  M.raise('%s', ffi.string(C.neap_error()))
end

--- Raises unless `status`, what a neap_ call returned, is 0.
---@param status integer
function M.check(status)
  if status ~= 0 then M.raise_last() end
end

--- How a value is called in an error text: 'a string', 'nil', '2.5', 'an array (2,3) float32'.
---@param value any
---@return string
function M.describe(value)
  local kind = type(value)
  if kind == 'nil' or kind == 'number' or kind == 'boolean' then return tostring(value) end
  if kind == 'string' then
    return #value <= 40 and ('the string %q'):format(value) or 'a string'
  end
  if kind == 'cdata' then
    local described = M.describe_array and M.describe_array(value) -- set by array.lua
    return described or ('a %s'):format(tostring(ffi.typeof(value)))
  end
  return 'a ' .. kind
end

return M
