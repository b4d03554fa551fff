-- SPDX-License-Identifier: MIT
-- Hot Lua over arrays compiles: in LuaJIT's own report the loop is one trace, and nothing
-- was given up for an instruction or function that the compiler does not know (NYI).

local support = dofile(debug.getinfo(1, 'S').source:match('^@(.*/)') .. 'support.lua')

-- Runs a loop body many times; gives back the report.
local function report(body)
  local output, ok = support.run(([[
    local neap = require 'neap'
    local nd = neap.nd
    local a, b, x = nd.ones({ 4, 4 }), nd.ones({ 4, 4 }), nd.ones(4)
    local kv = neap.kv.create() kv:init('w', a)
    require('jit.v').on('-')
    for i = 1, 5000 do -- line 6
      %s
    end
    a:wait_to_read()
  ]]):format(body))
  assert.is_true(ok, output)
  return output
end

describe('hot Lua', function()
  for name, body in pairs {
    ['in-place operations with arrays'] = 'a:add_(b) a:sub_(b) a:mul_(b) a:div_(b)',
    ['in-place operations with numbers'] = 'a:add_(1) a:sub_(i) a:mul_(0.5) a:div_(2)',
    ['in-place operations with broadcasting'] = 'a:add_(x)',
    ['axpy_'] = 'a:axpy_(0.5, b)',
    ['assignments'] = 'a:set(i) a:set(b)',
    ['operators'] = 'local c = a + b * 2 - 1 / a',
    ['unary minus and powers'] = 'local c = -a + b ^ 2',
    ['functions'] = 'local c = nd.relu(nd.exp(a)) c = c:clip(0, 1) c = nd.where(c, a, 1)',
    ['reductions'] = 'local s = a:sum() s = a:mean(0) s = nd.softmax(b)',
    ['dot'] = 'local c = nd.dot(a, b) c = a:dot(x)',
    ['constructors'] = 'local c = nd.zeros(4) c = nd.ones({ 4, 4 }) c = nd.full({ 2, 3, 4 }, 7)',
    ['views'] = 'local r = a:at(i % 4) r = a:slice(0, 2) r = a:reshape(16)',
    ['fields'] = 'local n = a.size + a.ndim + a.shape[1] + #a if a.ctx ~= b.ctx then n = 0 end',
    ['pushes and pulls'] = "kv:push('w', a) kv:pull('w', b)",
    ['comparisons with nil'] = 'if a == nil or a == b then i = 0 end',
    ['reading elements'] = 'local s = x:data()[i % 4] s = s + x:sum():item()',
  } do
    it('compiles: ' .. name, function()
      local output = report(body)
      assert.truthy(output:find('%[TRACE +%d+ [^\n]*:6 loop%]'), output)
      -- Where a trace happens to begin inside a function that returns, it is given up for that,
      -- and the loop begins its own: which functions get hot first is up to the system.
      local others = output:gsub('NYI: return to lower frame', '')
      assert.falsy(others:find('NYI', 1, true), output)
      assert.falsy(output:find('blacklisted', 1, true), output)
    end)
  end
end)
