-- SPDX-License-Identifier: MIT
-- Loaded by busted before the specs: a run without a single test fails. By itself busted calls
-- that a success, so that a misspelled filter or an empty file would pass for years.

local busted = require 'busted'

local tests = 0
busted.subscribe({ 'test', 'end' }, function()
  tests = tests + 1
  return nil, true
end)
busted.subscribe({ 'exit' }, function()
  if tests == 0 then
    io.stderr:write('busted: no test was run\n')
    os.exit(1)
  end
  return nil, true
end)
