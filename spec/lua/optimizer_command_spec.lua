-- SPDX-License-Identifier: MIT
-- `neap optimizer` against a job that runs: its workers push until a file is there, and count.

local here = debug.getinfo(1, 'S').source:match('^@(.*/)') or './'
local processes = dofile(here .. 'processes.lua')

after_each(processes.clean)

local WORKER = [[
local neap = require 'neap'
local nd, stop = neap.nd, ...
local kv = neap.kv.create 'dist_async'
kv:init('w', nd.zeros(10))
kv:set_optimizer(neap.optim.load(
  "return { name = 'count', update = function(w, g) return w + g end }"))
io.stdout:write('at <', os.getenv 'NEAP_ROOT_URI', '>\n')
io.stdout:flush()
local out, steps = nd.zeros(10), 0
repeat
  kv:push('w', nd.ones(10))
  steps = steps + 1
  kv:pull('w', out)
  local last = out:totable()[1]
  local file = io.open(stop)
until file
kv:pull('w', out)
print(out:totable()[1] == steps and 'all counted' or 'lost some')
kv:close()
]]

describe('neap optimizer', function()
  it('looks at the optimizer of a job, and changes it, if it may', function()
    local folder = processes.folder()
    local script = processes.write(folder .. '/worker.lua', WORKER)
    local other = processes.write(folder .. '/other.lua', "return { name = 'other', " ..
      'defaults = { x = 1, y = 2 }, update = function(w, g, s, p) return w + p.x * g end }')
    local bad = processes.write(folder .. '/bad.lua', 'return { name = "bad",\n' ..
      'update = function(w, g) while true do end end }')
    local environment = { NEAP_SECRET = 'theirs', NEAP_ADMIN_SECRET = 'mine', NEAP_TIMEOUT = '60',
      NEAP_NUM_THREADS = '1', NEAP_LOG = 'info', NEAP_ROOT_URI = false,
      LUA_PATH = ('%slua/?.lua;%slua/?/init.lua;;'):format(processes.root, processes.root) }
    local job = processes.start_neap({ 'launch', '-n', '1', '-s', '2', '--', 'luajit', script,
      folder .. '/stop' }, environment)
    job:says '>\n'
    local uri = job:output():match 'at <(.-)>'

    local function command(wanted, secret, ...)
      local status, output = processes.run_neap({ 'optimizer', ... }, { NEAP_ROOT_URI = uri,
        NEAP_SECRET = 'theirs', NEAP_ADMIN_SECRET = secret, NEAP_TIMEOUT = '60',
        LUA_PATH = environment.LUA_PATH })
      assert.equal(wanted, status, output)
      return output
    end

    local output = command(0, false)
    assert.matches('^count, version 1, hash %x+\n', output)
    assert.matches('learning_rate = 0.01', output)
    assert.matches('NEAP_ADMIN_SECRET', command(1, false, 'set', other))
    assert.matches('NEAP_ADMIN_SECRET', command(1, 'thine', 'rollback'))
    assert.equal('other, version 2\n', command(0, 'mine', 'set', other, 'y=5'))
    assert.matches('y = 5', command(0, false, 'show', '--server', uri))
    command(0, 'mine', 'set', 'y=6')
    assert.matches('y = 6', command(0, false))
    assert.matches('bad:2: runs for more than 1', command(1, 'mine', 'set', bad))
    assert.matches('no setting the string "z"', command(1, 'mine', 'set', 'z=6'))
    assert.equal('count, version 1\n', command(0, 'mine', 'rollback'))
    assert.matches('one step back', command(1, 'mine', 'rollback'))
    local lines = {}
    for line in command(0, false, 'history'):gmatch '[^\n]+' do lines[#lines + 1] = line end
    assert.equal(4, #lines)
    assert.matches('version 1 +count +%x+ +set +worker 0', lines[1])
    assert.matches('version 2 +other +%x+ +set +an admin', lines[2])
    assert.matches('version 2 +other +%x+ +settings +an admin', lines[3])
    assert.matches('version 1 +count +%x+ +rollback +an admin', lines[4])

    processes.write(folder .. '/stop', '')
    local status
    status, output = job:wait()
    assert.equal(0, status, output)
    assert.matches('all counted', output)
    assert.matches('rollback: optimizer count, version 1, hash %x+, by an admin', output)
  end)

  it('says what is wrong with a command line', function()
    local function misused(text, ...)
      local status, output = processes.run_neap({ 'optimizer', ... }, { NEAP_ROOT_URI = false })
      assert.equal(2, status, output)
      assert.truthy(output:find(text, 1, true), output)
    end
    misused 'which job?'
    misused('there is no option --x', '--x')
    misused('there is no frob', 'frob')
    misused('needs a value', '--server')
    local status, output = processes.run_neap { 'optimizer', '--help' }
    assert.equal(0, status)
    assert.matches('rollback', output)
  end)
end)
