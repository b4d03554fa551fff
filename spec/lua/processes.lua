-- SPDX-License-Identifier: MIT
--- Real processes for specs of jobs: the program `neap`, started, signalled and waited for, with a
-- limit on everything, so that nothing hangs and nothing is left behind.
--
--   local processes = dofile(debug.getinfo(1, 'S').source:match('^@(.*/)') .. 'processes.lua')

local bit = require 'bit'
local fcntl = require 'posix.fcntl'
local signal = require 'posix.signal'
local time = require 'posix.time'
local unistd = require 'posix.unistd'
local wait = require 'posix.sys.wait'

local M = {}

local LIMIT = 100 -- seconds that anything may take

--- The folder of the sources, absolute.
M.root = (function()
  local root = debug.getinfo(1, 'S').source:match('^@(.*)spec/lua/') or ''
  return root:sub(1, 1) == '/' and root or unistd.getcwd() .. '/' .. root
end)()

--- The file of the program.
M.neap = os.getenv('NEAP_PROGRAM') or M.root .. 'build/release/neap'

function M.sleep(seconds)
  time.nanosleep { tv_sec = math.floor(seconds), tv_nsec = math.floor(seconds % 1 * 1e9) }
end

local function now()
  local t = time.clock_gettime(time.CLOCK_MONOTONIC)
  return t.tv_sec + t.tv_nsec * 1e-9
end

--- Calls f until it gives something; nil if it never does.
function M.eventually(f, seconds)
  local deadline = now() + (seconds or LIMIT)
  repeat
    local result = f()
    if result then return result end
    M.sleep(0.02)
  until now() > deadline
end

-- ---- Files ---------------------------------------------------------------------------------

local folders = {}

--- A new folder; M.clean() removes it.
function M.folder()
  local path = os.tmpname()
  os.remove(path)
  assert(os.execute('mkdir ' .. path) == 0)
  folders[#folders + 1] = path
  return path
end

function M.write(path, text)
  local file = assert(io.open(path, 'wb'))
  assert(file:write(text))
  file:close()
  return path
end

function M.read(path)
  local file = io.open(path, 'rb')
  if not file then return '' end
  local text = file:read('*a')
  file:close()
  return text or ''
end

-- ---- Processes -----------------------------------------------------------------------------

local Process = {}
Process.__index = Process
local started = {}

--- Starts a program. `arguments[0]` is its file; `environment` name -> value is added to this
-- process's, false removes. Its output, errors included, goes to a file.
function M.start(arguments, environment)
  local log = M.folder() .. '/log'
  local child = assert(unistd.fork())
  if child == 0 then -- whatever happens, it must not go on as a second busted
    pcall(function()
      for _, number in ipairs { signal.SIGINT, signal.SIGTERM, signal.SIGHUP } do
        signal.signal(number, signal.SIG_DFL)
      end
      local fd = fcntl.open(log, bit.bor(fcntl.O_CREAT, fcntl.O_WRONLY, fcntl.O_APPEND),
        tonumber('600', 8))
      unistd.dup2(fd, 1)
      unistd.dup2(fd, 2)
      local stdlib = require 'posix.stdlib'
      for name, value in pairs(environment or {}) do stdlib.setenv(name, value or nil) end
      unistd.execp(arguments[0], arguments)
    end)
    unistd._exit(99)
  end
  local self = setmetatable({ pid = child, log = log }, Process)
  started[child] = self
  return self
end

function Process:output() return M.read(self.log) end

function Process:kill(number) if started[self.pid] then signal.kill(self.pid, number) end end

--- Waits until `text` is in its output; raises if that never happens.
function Process:says(text)
  local found = M.eventually(function() return self:output():find(text, 1, true) end)
  if not found then error(('%q is not in: %s'):format(text, self:output()), 2) end
end

--- Waits for its end: status (negative: the signal that ended it) and output. It is killed, and
-- an error raised, when it takes too long.
function Process:wait(seconds)
  local status
  local done = M.eventually(function()
    local pid, how, number = wait.wait(self.pid, wait.WNOHANG)
    if pid ~= self.pid then return false end
    status = how == 'exited' and number or -number
    return true
  end, seconds)
  if not done then
    signal.kill(self.pid, signal.SIGKILL)
    wait.wait(self.pid)
  end
  started[self.pid] = nil
  if not done then error('it takes too long; its output: ' .. self:output(), 2) end
  return status, self:output()
end

--- Runs a program to its end: status and output.
function M.run(arguments, environment)
  return M.start(arguments, environment):wait()
end

--- `neap` with arguments: started, or run.
function M.start_neap(arguments, environment)
  arguments[0] = M.neap
  return M.start(arguments, environment)
end
function M.run_neap(arguments, environment)
  return M.start_neap(arguments, environment):wait()
end

--- The processes, by number, whose command line has `text` in it: a text of the spec's own.
function M.with(text)
  local found = {}
  for pid in io.popen('ls /proc'):lines() do
    if pid:match('^%d+$') and tonumber(pid) ~= unistd.getpid() then
      if M.read('/proc/' .. pid .. '/cmdline'):find(text, 1, true) then found[#found + 1] = pid end
    end
  end
  return found
end

--- Whether no process has `text` in its command line any more, within a while.
function M.none_left(text)
  return M.eventually(function() return #M.with(text) == 0 end, 20) == true
end

--- The children of a process whose command line has `text` in it.
function M.children(pid, text)
  local found = {}
  for _, other in ipairs(M.with(text)) do
    local parent = M.read('/proc/' .. other .. '/stat'):match('%) %S (%d+)')
    if tonumber(parent) == pid then found[#found + 1] = tonumber(other) end
  end
  return found
end

--- Ends what is still there of what was started, and removes folders.
function M.clean()
  for pid in pairs(started) do
    signal.kill(pid, signal.SIGKILL)
    wait.wait(pid)
    started[pid] = nil
  end
  for _, folder in ipairs(folders) do os.execute('rm -rf ' .. folder) end
  folders = {}
end

return M
