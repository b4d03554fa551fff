-- SPDX-License-Identifier: MIT
--- Plain values (numbers, booleans, strings, tables of these) as text, and back.
--
-- For files and messages, so reading must be safe whatever the text: nothing is ever run. The
-- same value gives the same text in every process: table keys are sorted.
--
--   n<%.17g>;   s<length>:<bytes>   T   F   {<key><value>...}

local M = {}

local DEEPEST = 16

local function before(a, b)
  if type(a) ~= type(b) then return type(a) == 'number' end
  return a < b
end

local function write(out, value, depth)
  local kind = type(value)
  if kind == 'number' then
    out[#out + 1] = ('n%.17g;'):format(value)
  elseif kind == 'string' then
    out[#out + 1] = ('s%d:'):format(#value)
    out[#out + 1] = value
  elseif kind == 'boolean' then
    out[#out + 1] = value and 'T' or 'F'
  elseif kind == 'table' and depth < DEEPEST then
    local keys = {}
    for key in pairs(value) do
      assert(type(key) == 'number' or type(key) == 'string')
      keys[#keys + 1] = key
    end
    table.sort(keys, before)
    out[#out + 1] = '{'
    for _, key in ipairs(keys) do
      write(out, key, depth + 1)
      write(out, value[key], depth + 1)
    end
    out[#out + 1] = '}'
  else
    error('pack: cannot write ' .. kind)
  end
end

--- The text of a value.
---@param value any
---@return string
function M.encode(value)
  local out = {}
  write(out, value, 0)
  return table.concat(out)
end

local read

local function read_table(text, at, depth)
  local result = {}
  while text:sub(at, at) ~= '}' do
    local key, value
    key, at = read(text, at, depth + 1)
    if type(key) ~= 'string' and (type(key) ~= 'number' or key ~= key) then error() end
    value, at = read(text, at, depth + 1)
    result[key] = value
  end
  return result, at + 1
end

--- The value that begins at `at`, and where the next one does. Raises for anything else.
function read(text, at, depth)
  local kind = text:sub(at, at)
  if kind == 'T' then return true, at + 1 end
  if kind == 'F' then return false, at + 1 end
  if kind == '{' and depth < DEEPEST then return read_table(text, at + 1, depth) end
  if kind == 'n' then
    local digits, stop = text:match('^([%w.+-]+);()', at + 1)
    return tonumber(digits) or error(), stop
  end
  if kind == 's' then
    local length, start = text:match('^(%d%d?%d?%d?%d?%d?%d?%d?%d?):()', at + 1)
    local stop = start + length
    if stop > #text + 1 then error() end
    return text:sub(start, stop - 1), stop
  end
  error()
end

--- The value of a text; nil if it is not one of encode's.
---@param text string
---@return any
function M.decode(text)
  local ok, value, stop = pcall(read, text, 1, 0)
  if not ok or stop ~= #text + 1 then return nil end
  return value
end

return M
