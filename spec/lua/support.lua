-- SPDX-License-Identifier: MIT
--- What several specs need: errors with their place, nearly equal tables, child processes.
--
--   local support = dofile(debug.getinfo(1, 'S').source:match('^@(.*/)') .. 'support.lua')

local luassert = require 'luassert'

local M = {}

--- The folder of the sources, with a slash at its end, or ''.
M.root = debug.getinfo(1, 'S').source:match('^@(.*)spec/lua/') or ''

--- `f` raises an error that begins with a place in the spec itself (the caller's line, not
-- one of ours) and holds each of the texts.
function M.raises(f, ...)
  local ok, why = pcall(f)
  luassert.is_false(ok, 'nothing was raised')
  local here = debug.getinfo(2, 'S').short_src:match('[^/]*$')
  luassert.truthy(tostring(why):match('^[^\n]*' .. here:gsub('%p', '%%%0') .. ':%d+: '),
    'not at the caller\'s line: ' .. tostring(why))
  for _, text in ipairs { ... } do
    luassert.truthy(why:find(text, 1, true), ('%q is not in: %s'):format(text, why))
  end
  return why
end

local function nearly(expected, actual, tolerance)
  if type(expected) ~= 'table' then
    if expected ~= expected then return actual ~= actual end -- NaN
    return expected == actual or math.abs(expected - actual) <= tolerance * math.max(1,
      math.abs(expected))
  end
  if type(actual) ~= 'table' or #expected ~= #actual then return false end
  for i = 1, #expected do
    if not nearly(expected[i], actual[i], tolerance) then return false end
  end
  return true
end

local function text(value)
  if type(value) ~= 'table' then return tostring(value) end
  local parts = {}
  for i = 1, #value do parts[i] = text(value[i]) end
  return '{' .. table.concat(parts, ', ') .. '}'
end

--- Nested tables (or arrays) hold the same numbers, up to a relative error.
function M.near(expected, actual, tolerance)
  if type(actual) == 'cdata' then actual = actual:totable() end
  luassert.is_true(nearly(expected, actual, tolerance or 1e-6),
    ('%s is wanted, not %s'):format(text(expected), text(actual)))
end

--- Runs Lua source in a process of its own: its output, errors included, and whether it ended
-- well. `environment` is text such as 'NEAP_ENGINE=naive'.
function M.run(source, environment, options)
  local name = os.tmpname()
  local file = assert(io.open(name, 'w'))
  file:write(source)
  file:close()
  local pipe = assert(io.popen(('%s LUA_PATH="%slua/?.lua;%slua/?/init.lua;;" luajit %s %s 2>&1; '
    .. 'echo "status $?"'):format(environment or '', M.root, M.root, options or '', name)))
  local output = pipe:read('*a')
  pipe:close()
  os.remove(name)
  local printed, status = output:match('^(.*)status (%d+)\n$')
  return printed, status == '0'
end

return M
