-- SPDX-License-Identifier: MIT
--- tostring(array): values, shape and context, as NumPy prints them.
--
-- The numbers of one array share one notation and stand in columns: decimal points under
-- each other, or all in exponents where sizes differ widely. A float that needs more than 8
-- decimals is rounded. Of more than 1000 elements only the first and last 3 of each
-- dimension are shown, and only those are looked at.

local ffi = require 'ffi'
local C = require 'neap.ffi'
local array = require 'neap.array'
local dtype = require 'neap.dtype'
local values = require 'neap.nd_values'

local MOST = 1000   -- elements shown in full
local EDGE = 3      -- else this many at each end of a dimension
local WIDTH = 80    -- columns; longer rows are wrapped
local DECIMALS = 8
local GAP = -1      -- stands for the elements left out

--- Positions of a dimension of length `n` that are shown.
local function shown(n, shorten)
  local positions = {}
  if not shorten or n <= 2 * EDGE then
    for i = 0, n - 1 do positions[#positions + 1] = i end
  else
    for i = 0, EDGE - 1 do positions[#positions + 1] = i end
    positions[#positions + 1] = GAP
    for i = n - EDGE, n - 1 do positions[#positions + 1] = i end
  end
  return positions
end

--- Calls `see` with each element that is shown.
local function each(pointer, info, shorten, see)
  local function walk(axis, offset)
    if axis == info.ndim then return see(values.element(pointer, info.dtype, offset)) end
    local n = tonumber(info.shape[axis])
    for _, i in ipairs(shown(n, shorten)) do
      if i ~= GAP then walk(axis + 1, offset * n + i) end
    end
  end
  walk(0, 0)
end

-- ---- Numbers -------------------------------------------------------------------------------

local single = ffi.new('float[1]')

--- The shortest text in exponent notation that reads back as the same number: '1.25e-01'.
local function shortest(value, digits, is_double)
  for precision = 0, digits - 1 do
    local text = ('%.' .. precision .. 'e'):format(value)
    local back = tonumber(text)
    if not is_double then
      single[0] = back
      back = single[0]
    end
    if back == value then return text, precision end
  end
  return ('%.' .. digits - 1 .. 'e'):format(value), digits - 1
end

local function integer_text(value)
  if type(value) == 'cdata' then return (tostring(value):gsub('U?LL$', '')) end
  return ('%.0f'):format(value)
end

local function special(value)
  if value ~= value then return 'nan' end
  if value == math.huge then return 'inf' end
  if value == -math.huge then return '-inf' end
end

--- Digits after the point that `value` needs, and the power of ten it begins with.
local function needs(value, digits, is_double)
  local text, precision = shortest(value, digits, is_double)
  local exponent = tonumber(text:match('e(.*)$'))
  return math.max(precision - exponent, 0), exponent, precision
end

--- How the numbers of an array are written: a function from number to text, all of one
-- width.
local function notation(pointer, info, shorten)
  local write
  if dtype.is_integer(info.dtype) then
    write = integer_text
  else
    local is_double = info.dtype == C.NEAP_FLOAT64
    local digits = is_double and 17 or 9
    local decimals, precision, largest, smallest = 0, 0, -math.huge, math.huge
    each(pointer, info, shorten, function(value)
      if value == 0 or special(value) then return end
      local fraction, exponent, mantissa = needs(value, digits, is_double)
      decimals, precision = math.max(decimals, fraction), math.max(precision, mantissa)
      largest, smallest = math.max(largest, exponent), math.min(smallest, exponent)
    end)
    local exponents = largest >= 9 or smallest < -4 or largest - smallest >= 8
    local format = exponents and '%.' .. math.min(precision, DECIMALS) .. 'e'
      or '%.' .. math.min(decimals, DECIMALS) .. 'f'
    write = function(value)
      local text = special(value) or format:format(value)
      if exponents then return text end
      -- Zeros at the end of the fraction become spaces, so that points stay in line.
      local whole, fraction = text:match('^(.-)%.(%d+)$')
      if not whole then return text end
      local kept = fraction:gsub('0+$', '')
      local point = kept == '' and ' ' or '.'
      return whole .. point .. kept .. (' '):rep(#fraction - #kept)
    end
  end
  local width = 0
  each(pointer, info, shorten, function(value) width = math.max(width, #write(value)) end)
  return function(value)
    local text = write(value)
    return (' '):rep(width - #text) .. text
  end
end

-- ---- Brackets ------------------------------------------------------------------------------

--- One row of numbers, wrapped; `indent` is the depth of its bracket.
local function row_text(cells, indent)
  local lines, line = {}, ''
  for i, cell in ipairs(cells) do
    local longer = i == 1 and cell or line .. ' ' .. cell
    if i > 1 and #longer + indent + 2 > WIDTH then
      lines[#lines + 1] = line
      longer = cell
    end
    line = longer
  end
  lines[#lines + 1] = line
  for i, text in ipairs(lines) do lines[i] = text:gsub('%s+$', '') end
  return table.concat(lines, '\n' .. (' '):rep(indent + 1))
end

local function body_text(pointer, info, shorten, write)
  local function walk(axis, offset)
    local n = tonumber(info.shape[axis])
    local parts = {}
    local last = axis == info.ndim - 1
    for _, i in ipairs(shown(n, shorten)) do
      if i == GAP then parts[#parts + 1] = '...'
      elseif last then
        parts[#parts + 1] = write(values.element(pointer, info.dtype, offset * n + i))
      else
        parts[#parts + 1] = walk(axis + 1, offset * n + i)
      end
    end
    if last then return '[' .. row_text(parts, axis) .. ']' end
    -- As many line ends between blocks as there are dimensions in them.
    local between = ('\n'):rep(info.ndim - 1 - axis) .. (' '):rep(axis + 1)
    return '[' .. table.concat(parts, between) .. ']'
  end
  return walk(0, 0)
end

local function values_text(self)
  local readable, temporary = values.readable(self, 'tostring')
  local pointer, info = readable:data(), readable._info
  local shorten = info.size > MOST
  local text
  if info.ndim == 0 then
    text = (notation(pointer, info, false)(values.element(pointer, info.dtype, 0)):gsub('%s+$', ''))
  elseif info.size == 0 then
    text = '[]'
  else
    text = body_text(pointer, info, shorten, notation(pointer, info, shorten))
  end
  if temporary then temporary:close() end
  return text
end

local function head(self)
  local info = self._info
  local shape = info.ndim == 0 and 'scalar' or table.concat(self.shape, 'x')
  return ('%s %s @%s'):format(shape, self.dtype, tostring(self.ctx))
end

--- Values, then shape, dtype and context. Of a row-sparse array: the ids of its rows, and
-- those rows. Waits; raises a late error.
---@param self neap.Array
---@return string
function array.metatype.__tostring(self)
  if self._h == nil then return '<neap.Array closed>' end
  if self._info.stype == C.NEAP_DENSE then
    return ('%s\n<neap.Array %s>'):format(values_text(self), head(self))
  end
  local rows, ids = self.values, self.indices
  local text = ('%s\nrows %s\n<neap.Array %s row_sparse>'):format(values_text(rows),
    values_text(ids), head(self))
  rows:close()
  ids:close()
  return text
end
