-- SPDX-License-Identifier: MIT
-- push and pull of one key compile: a loop over them becomes a trace, without anything the
-- compiler cannot do. In a process of its own, so that no other code is hot.

local SCRIPT = [==[
local neap, util, vmdef = require 'neap', require 'jit.util', require 'jit.vmdef'
local nd = neap.nd
local store = neap.kv.create(arg[1])
local value, out = nd.ones({ 16 }), nd.zeros({ 16 })
local key = tonumber(arg[2]) or arg[2]
store:init(key, value)
if arg[3] then store:set_optimizer(neap.optim[arg[3]] {}) end
local looped = false
jit.attach(function(what, trace, func, pc, reason)
  if what == 'stop' and util.traceinfo(trace).linktype == 'loop' then looped = true end
  -- A trace that happens to begin inside a function that returns is given up, and begun again
  -- by the loop; which functions get hot first depends on where the system puts them.
  local why = what == 'abort' and vmdef.traceerr[reason] or ''
  if why:find('NYI') and not why:find('return to lower frame') then print('abort: ' .. why) end
end, 'trace')
for i = 1, 20000 do
  store:push(key, value, i % 3)
  store:pull(key, out)
end
out:wait_to_read()
print(looped and 'looped' or 'never compiled')
]==]

describe('push and pull of one key', function()
  for _, case in ipairs { 'local w', 'local 7', 'device w', 'local w sgd' } do
    it('compile: ' .. case, function()
      local name = os.tmpname()
      local file = assert(io.open(name, 'w'))
      file:write(SCRIPT)
      file:close()
      local pipe = io.popen(('LUA_PATH="lua/?.lua;lua/?/init.lua;;" luajit %s %s 2>&1'):format(name,
        case))
      local output = pipe:read('*a')
      pipe:close()
      os.remove(name)
      assert.equal('looped\n', output)
    end)
  end
end)
