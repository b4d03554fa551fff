-- SPDX-License-Identifier: MIT
-- The program `neap`: what it starts, how it ends, and that it leaves nothing behind. Workers are
-- shells here; what they do with each other is in kv_dist_spec.lua.

local signal = require 'posix.signal'
local unistd = require 'posix.unistd'

local here = debug.getinfo(1, 'S').source:match('^@(.*/)') or './'
local processes = dofile(here .. 'processes.lua')
local run, start = processes.run_neap, processes.start_neap

after_each(processes.clean)

local marks = 0
-- A text that is on the command lines of one job's workers and nowhere else.
local function mark()
  marks = marks + 1
  return ('mark-%d-%d-'):format(unistd.getpid(), marks)
end

local function has(text, ...)
  for _, part in ipairs { ... } do
    assert.truthy(text:find(part, 1, true), ('%q is not in: %s'):format(part, text))
  end
end

describe('neap', function()
  it('tells its version and its commands', function()
    local status, output = run { '--version' }
    assert.equal(0, status)
    assert.equal('neap ' .. require('neap').version .. '\n', output)
    for _, option in ipairs { '--help', '-h', 'help' } do
      status, output = run { option }
      assert.equal(0, status)
      has(output, 'neap launch', 'neap run', 'neap server', 'neap scheduler')
    end
  end)

  it('says what is wrong with a command line, and where help is', function()
    local function misused(text, ...)
      local status, output = run { ... }
      assert.equal(2, status, output)
      has(output, text)
      assert.truthy(output:find('Try: neap') or output:find('Usage: neap'), output)
    end
    misused 'Usage'
    misused("no command 'lunch'", 'lunch')
    misused('how many workers', 'launch', 'true')
    misused('which command', 'launch', '-n', '2')
    misused('-n two', 'launch', '-n', 'two', 'true')
    misused('-n 0', 'launch', '-n', '0', 'true')
    misused('-n 1.5', 'launch', '-n', '1.5', 'true')
    misused('-s 0', 'launch', '-n', '1', '-s', '0', 'true')
    misused('--grace soon', 'launch', '-n', '1', '--grace', 'soon', 'true')
    misused('neap launch: unrecognized option', 'launch', '--workers', '1', 'true')
    misused('neap server: unrecognized option', 'server', '--x')
    misused("'x'", 'scheduler', 'x')
    misused('which script', 'run')
    misused('no option --x', 'run', '--x')
  end)

  it('explains every command', function()
    for _, command in ipairs { 'launch', 'run', 'server', 'scheduler' } do
      local status, output = run { command, '--help' }
      assert.equal(0, status)
      has(output, 'Usage: neap ' .. command)
    end
  end)
end)

describe('neap run', function()
  local function script(text) return processes.write(processes.folder() .. '/s.lua', text) end
  local bare = { LUA_PATH = false, NEAP_LIBRARY = false }

  it('finds Neap by itself, and hands arguments over', function()
    local file = script [[
      assert(require 'neap'.nd.ones(3):sum():item() == 3)
      print(arg[0] == (...), arg[1], select('#', ...), select(2, ...))]]
    local status, output = run({ 'run', file, file, 'b c' }, bare)
    assert.equal(0, status, output)
    assert.equal(('true\t%s\t2\tb c\n'):format(file), output)
  end)

  it('ends with the status of the script', function()
    assert.equal(7, (run({ 'run', script 'os.exit(7)' }, bare)))
    local status, output = run({ 'run', script 'local function f() error("boom") end f()' }, bare)
    assert.equal(1, status)
    has(output, 's.lua:1: boom', 'stack traceback')
    status, output = run({ 'run', script 'error({})' }, bare)
    assert.equal(1, status)
    has(output, 'neap run: ')
    status, output = run { 'run', '/no/such/file' }
    assert.equal(1, status)
    has(output, '/no/such/file')
  end)
end)

describe('neap scheduler and neap server', function()
  local job = { NEAP_ROOT_URI = 'tcp://127.0.0.1:0', NEAP_NUM_WORKERS = '1',
    NEAP_NUM_SERVERS = '1' }

  it('end in order on SIGTERM and SIGINT', function()
    for _, number in ipairs { signal.SIGTERM, signal.SIGINT } do
      local scheduler = start({ 'scheduler' }, job)
      scheduler:says 'NEAP_ROOT_URI=tcp://127.0.0.1:'
      local uri = processes.eventually(function()
        return scheduler:output():match('NEAP_ROOT_URI=(%S+)\n')
      end)
      local server = start({ 'server', '-r', uri, '-n', '1', '-s', '1', '--log', 'info' })
      server:says 'server of 1 workers and 1 servers'
      processes.sleep(0.3)
      server:kill(number)
      local status, output = server:wait()
      assert.equal(0, status, output)
      scheduler:kill(number)
      status, output = scheduler:wait()
      assert.equal(0, status, output)
    end
  end)

  it('refuse an environment that makes no sense, and name the variable', function()
    local function refused(command, environment, ...)
      local status, output = run({ command }, environment)
      assert.equal(1, status, output)
      has(output, 'neap ' .. command .. ': ', ...)
    end
    refused('server', {}, 'NEAP_ROOT_URI is not set')
    refused('scheduler', { NEAP_ROOT_URI = 'tcp://127.0.0.1:0' }, 'NEAP_NUM_WORKERS is not set')
    refused('server', { NEAP_ROLE = 'worker', NEAP_ROOT_URI = 'x', NEAP_NUM_WORKERS = '1',
      NEAP_NUM_SERVERS = '1' }, 'NEAP_ROLE is worker')
    refused('server', { NEAP_LOG = 'loud' }, 'NEAP_LOG', 'error warn info debug')
    refused('scheduler', { NEAP_TIMEOUT = '-1' }, 'NEAP_TIMEOUT')
    refused('scheduler', { NEAP_ROOT_URI = 'http://x', NEAP_NUM_WORKERS = '1',
      NEAP_NUM_SERVERS = '1' }, 'http://x')
  end)

  it('listen on other addresses with a secret only', function()
    local status, output = run { 'scheduler', '-r', 'tcp://0.0.0.0:0', '-n', '1', '-s', '1' }
    assert.equal(1, status)
    has(output, 'secret')
  end)
end)

describe('neap launch', function()
  -- Runs shells: `text` for each worker, with options before.
  local function shells(text, options, environment)
    local arguments, of = { 'launch' }, mark()
    for _, option in ipairs(options) do arguments[#arguments + 1] = option end
    for _, word in ipairs { '--', 'sh', '-c', text, of } do arguments[#arguments + 1] = word end
    return start(arguments, environment), of
  end
  local function run_shells(...)
    local job, of = shells(...)
    local status, output = job:wait()
    assert.is_true(processes.none_left(of))
    return status, output
  end

  it('tells each worker who it is', function()
    local status, output = run_shells(
      [[echo "$NEAP_ROLE $NEAP_RANK/$NEAP_NUM_WORKERS+$NEAP_NUM_SERVERS $NEAP_LOCAL_RANK" \
        "$NEAP_ROOT_URI ${#NEAP_SECRET} <$(cat)>"]], { '-n', '3', '-s', '2' })
    assert.equal(0, status, output)
    for rank = 0, 2 do
      assert.truthy(output:match(('worker %d/3%%+2 %d tcp://127.0.0.1:[1-9]%%d* 32 <>\n'):format(
        rank, rank)), output)
    end
  end)

  it('adds nothing to what they say, and passes no words through a shell', function()
    local word = [[a 'b' "$HOME" \ *]]
    local status, output = run { 'launch', '-n', '1', 'printf', '%s|', word, '-n', '' }
    assert.equal(0, status)
    assert.equal(word .. '|-n||', output)
  end)

  it('hides what another launcher said of itself', function()
    local status, output = run_shells('env', { '-n', '1' }, { RANK = '3', WORLD_SIZE = '4',
      OMPI_COMM_WORLD_RANK = '3', SLURM_PROCID = '3', DMLC_ROLE = 'server',
      NEAP_RANK = '7', NEAP_SECRET = 'mine' })
    assert.equal(0, status)
    assert.falsy(output:find('\nRANK=') or output:find('OMPI_') or output:find('SLURM_PROCID') or
      output:find('DMLC_'), output)
    has(output, 'NEAP_RANK=0\n', 'NEAP_SECRET=mine\n')
  end)

  it('finds Neap for them', function()
    local file = processes.write(processes.folder() .. '/s.lua', "print(require 'neap'.version)")
    local status, output = run({ 'launch', '-n', '1', 'luajit', file },
      { LUA_PATH = false, NEAP_LIBRARY = false })
    assert.equal(0, status, output)
    assert.equal(require('neap').version .. '\n', output)
  end)

  it('ends with the status of the first that fails, says who, and ends the others', function()
    local status, output = run_shells('[ $NEAP_RANK = 1 ] && exit 3; exec sleep 300',
      { '-n', '3', '--grace', '0.2' })
    assert.equal(3, status)
    has(output, 'worker 1 ended with status 3; the others have 0.2 s to end')
    assert.falsy(output:find('worker 0') or output:find('worker 2'), output)
  end)

  it('names the signal that a worker died of', function()
    local status, output = run_shells('[ $NEAP_RANK = 0 ] && kill -9 $$; exec sleep 300',
      { '-n', '2', '--grace', '0.2' })
    assert.equal(128 + 9, status)
    has(output, 'worker 0 ended with status 137 (SIGKILL)')
  end)

  it('kills those who do not want to end', function()
    local status = run_shells([[[ $NEAP_RANK = 0 ] && exit 5
      trap "" TERM; while :; do sleep 1; done]], { '-n', '2', '--grace', '0.2' })
    assert.equal(5, status)
  end)

  it('leaves time to the others', function()
    local status, output = run_shells('[ $NEAP_RANK = 0 ] && exit 5; sleep 0.5; echo done',
      { '-n', '2', '--grace', '60' })
    assert.equal(5, status)
    has(output, 'done\n')
  end)

  it('lets the others go on where NEAP_ON_WORKER_LOST says so', function()
    local status, output = run_shells('[ $NEAP_RANK = 0 ] && exit 5; sleep 1; echo done',
      { '-n', '2', '--grace', '0.1' }, { NEAP_ON_WORKER_LOST = 'continue' })
    assert.equal(5, status)
    has(output, 'worker 0 ended with status 5; the others go on', 'done\n')
  end)

  it('ends what a worker has left behind', function()
    local status = run_shells('sh -c "sleep 300" "$0" & exit 0', { '-n', '2' })
    assert.equal(0, status)
  end)

  it('says that a command cannot be run', function()
    local status, output = run { 'launch', '-n', '2', 'no-such-program' }
    assert.equal(127, status)
    has(output, 'cannot run no-such-program: No such file or directory')
  end)

  it('passes signals on', function()
    for name, number in pairs { INT = signal.SIGINT, TERM = signal.SIGTERM, HUP = signal.SIGHUP } do
      local job, of = shells(([[trap 'echo got; exit 9' %s; echo ready
        while :; do sleep 0.05; done]]):format(name), { '-n', '2', '--grace', '60' })
      assert(processes.eventually(function()
        return select(2, job:output():gsub('ready', '')) == 2
      end), job:output())
      job:kill(number)
      local status, output = job:wait()
      assert.equal(9, status)
      assert.equal(2, select(2, output:gsub('got', '')), output)
      assert.is_true(processes.none_left(of))
    end
  end)

  it('ends at once at the second signal', function()
    local job, of = shells([[trap 'echo got' INT; echo ready; while :; do sleep 0.05; done]],
      { '-n', '1', '--grace', '1000' })
    job:says 'ready'
    job:kill(signal.SIGINT)
    job:says 'got'
    job:kill(signal.SIGINT)
    assert.equal(137, (job:wait()))
    assert.is_true(processes.none_left(of))
  end)

  it('takes all with it when it is killed', function()
    local job, of = shells("trap '' TERM; echo ready; while :; do sleep 0.05; done", { '-n', '2' })
    job:says 'ready'
    local all = processes.children(job.pid, '')
    assert.equal(4, #all)
    job:kill(signal.SIGKILL)
    assert.equal(-9, (job:wait()))
    for _, pid in ipairs(all) do
      assert(processes.eventually(function()
        local state = processes.read(('/proc/%d/stat'):format(pid)):match('%) (%S)')
        return state == nil or state == 'Z'
      end, 20))
    end
    assert.is_true(processes.none_left(of))
  end)

  it('notices when a server dies', function()
    local job, of = shells('echo ready; exec sleep 300', { '-n', '1', '-s', '2', '--grace', '0.2' })
    job:says 'ready'
    local servers = processes.children(job.pid, 'server')
    assert.equal(2, #servers)
    signal.kill(servers[1], signal.SIGKILL)
    local status, output = job:wait()
    assert.equal(137, status)
    assert.truthy(output:find('server [01] ended with status 137 %(SIGKILL%)'), output)
    assert.is_true(processes.none_left(of))
  end)

  it('does not begin where the scheduler cannot', function()
    local status, output = run { 'launch', '-n', '1', '-r', 'http://x', 'echo', 'started' }
    assert.equal(1, status)
    has(output, 'http://x', 'the scheduler has not started')
    assert.falsy(output:find('started\n', 1, true) and output:find('^started'), output)
    status, output = run({ 'launch', '-n', '1', 'true' }, { NEAP_TIMEOUT = 'soon' })
    assert.equal(1, status)
    has(output, 'NEAP_TIMEOUT')
  end)
end)

describe('neap launch --hostfile', function()
  -- A program `ssh` that notes its words, and runs the command in a shell, as the real one does.
  local function fake_ssh()
    local folder = processes.folder()
    processes.write(folder .. '/ssh', ([[#!/bin/sh
      host=$1; shift
      printf '%%s: %%s\n' "$host" "$*" >>%s/log
      FAKE_HOST=$host; export FAKE_HOST
      unset NEAP_ROLE NEAP_RANK NEAP_ROOT_URI NEAP_NUM_WORKERS NEAP_NUM_SERVERS NEAP_LOCAL_RANK
      exec sh -c "$*"
    ]]):format(folder))
    os.execute('chmod +x ' .. folder .. '/ssh')
    return { PATH = folder .. ':' .. os.getenv('PATH'), NEAP_SECRET = 'word-of-ours' },
      folder .. '/log', folder
  end
  local HOSTS = '# a comment\nalpha slots=2 addr=127.0.0.1\n\nbeta addr=127.0.0.1 # another\n'

  local function launch(text, of, environment, folder, ...)
    local hosts = processes.write(folder .. '/hosts', HOSTS)
    local arguments = { 'launch', '--hostfile', hosts, '-r', 'tcp://127.0.0.1:0', ... }
    for _, word in ipairs { '--', 'sh', '-c', text, of } do arguments[#arguments + 1] = word end
    return start(arguments, environment)
  end

  it('deals workers and servers out in turn, and tells no command line the secret', function()
    local environment, log, folder = fake_ssh()
    local of = mark()
    local job = launch([[echo "$FAKE_HOST $NEAP_RANK $NEAP_LOCAL_RANK $NEAP_SECRET <$(cat)> $PWD" \
      'it'"'"'s; sleep 1']], of, environment, folder, '-n', '5', '-s', '1')
    local status, output = job:wait()
    assert.equal(0, status, output)
    local cwd = unistd.getcwd()
    for _, place in ipairs { 'alpha 0 0', 'alpha 1 1', 'beta 2 0', 'alpha 3 2', 'alpha 4 3' } do
      has(output, place .. ' word-of-ours <> ' .. cwd .. " it's; sleep 1\n")
    end
    local commands = processes.read(log)
    has(commands, 'alpha: env NEAP_', 'beta: env NEAP_', 'NEAP_RANK=3')
    assert.truthy(commands:find('beta: env [^\n]*NEAP_ROLE=server'), commands)
    assert.falsy(commands:find('word-of-ours', 1, true), commands)
    assert.is_true(processes.none_left(of))
  end)

  it('hands statuses and signals through', function()
    local environment, _, folder = fake_ssh()
    local of = mark()
    local job = launch('[ $NEAP_RANK = 1 ] && exit 4; exec sleep 300', of, environment, folder,
      '-n', '2', '--grace', '0.2')
    local status, output = job:wait()
    assert.equal(4, status)
    has(output, 'worker 1 ended with status 4')
    assert.is_true(processes.none_left(of))

    job = launch([[trap 'echo got; exit 9' INT; echo ready; while :; do sleep 0.05; done]], of,
      environment, folder, '-n', '2', '--grace', '60')
    assert(processes.eventually(function()
      return select(2, job:output():gsub('ready', '')) == 2
    end), job:output())
    job:kill(signal.SIGINT)
    status, output = job:wait()
    assert.equal(9, status, output)
    assert.equal(2, select(2, output:gsub('got', '')), output)
    assert.is_true(processes.none_left(of))
  end)

  it('ends the far ends when it is killed itself', function()
    local environment, _, folder = fake_ssh()
    local of = mark()
    local job = launch([[trap '' TERM; echo ready; while :; do sleep 0.05; done]], of, environment,
      folder, '-n', '2', '--grace', '1')
    job:says 'ready'
    job:kill(signal.SIGKILL)
    job:wait()
    assert.is_true(processes.none_left(of))
  end)

  it('says what is wrong with a file of hosts', function()
    local folder = processes.folder()
    local function refused(text, ...)
      local path = text and processes.write(folder .. '/hosts', text) or folder .. '/none'
      local status, output = run { 'launch', '-n', '1', '--hostfile', path, 'true' }
      assert.equal(1, status)
      has(output, path, ...)
    end
    refused(nil, 'No such file')
    refused('# nobody\n', 'there are no hosts')
    refused('alpha\n-oProxyCommand=x\n', ':2: ', 'no name of a host')
    refused('alpha;reboot\n', ':1: ', 'no name of a host')
    refused('alpha slots=0\n', ':1: ', 'slots=')
    refused('alpha max=4\n', ':1: ', 'NAME [slots=N]')
  end)
end)
