-- SPDX-License-Identifier: MIT
--- A Slurm of one node, set up for a spec in a folder of its own: munged, slurmctld and slurmd as
-- the user who runs the spec, on loopback, with a key made for it. Nothing of the system's is read.
--
--   local slurm = dofile(debug.getinfo(1, 'S').source:match('^@(.*/)') .. 'slurm.lua')

local processes = dofile(debug.getinfo(1, 'S').source:match('^@(.*/)') .. 'processes.lua')
local signal = require 'posix.signal'
local unistd = require 'posix.unistd'

local M = {}

local PROGRAMS = { 'munged', 'slurmctld', 'slurmd', 'srun' }

-- Daemons live where only administrators' shells look.
local PATH = os.getenv('PATH') .. ':/usr/local/sbin:/usr/sbin:/sbin'

--- What has to be installed; nil if all is there.
function M.missing()
  for _, program in ipairs(PROGRAMS) do
    if os.execute(('PATH=%s command -v %s >/dev/null'):format(PATH, program)) ~= 0 then
      return program .. ' is not installed (slurm-wlm, munge)'
    end
  end
end

-- More processors than there may be, so that a job of some tasks always finds room; no cgroups and
-- no accounts, which a spec has no right to.
local CONFIGURATION = [[
ClusterName=neap
SlurmctldHost=HOST(127.0.0.1)
SlurmctldPort=PORT1
SlurmdPort=PORT2
SlurmUser=USER
SlurmdUser=USER
AuthType=auth/munge
AuthInfo=socket=FOLDER/munge.socket
StateSaveLocation=FOLDER
SlurmdSpoolDir=FOLDER/spool
SlurmctldPidFile=FOLDER/slurmctld.pid
SlurmdPidFile=FOLDER/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
NodeName=HOST NodeAddr=127.0.0.1 CPUs=8
PartitionName=all Nodes=ALL Default=YES
]]

local function line_of(command)
  local pipe = io.popen(command)
  local line = pipe:read()
  pipe:close()
  return line
end

--- Starts it, its two daemons on ports of their own. Raises if it does not come up.
---@return table with `environment`, what srun needs, and stop()
function M.start(port1, port2)
  local folder = processes.folder()
  local key = processes.write(folder .. '/key', assert(io.open('/dev/urandom', 'rb')):read(128))
  assert(os.execute(('chmod 700 %s && chmod 600 %s'):format(folder, key)) == 0)
  local words = { HOST = line_of 'hostname -s', USER = line_of 'id -un', FOLDER = folder,
    PORT1 = port1, PORT2 = port2 }
  local path = processes.write(folder .. '/slurm.conf', (CONFIGURATION:gsub('%u+%d?', words)))
  local environment = { SLURM_CONF = path, PATH = PATH }

  local self = { environment = environment, daemons = {} }
  local function daemon(...)
    self.daemons[#self.daemons + 1] = processes.start({ [0] = ... , select(2, ...) }, environment)
  end

  --- Ends it in order; whatever does not want to is killed.
  function self.stop()
    for i = #self.daemons, 1, -1 do
      self.daemons[i]:kill(signal.SIGTERM)
      pcall(self.daemons[i].wait, self.daemons[i], 10)
    end
    processes.clean()
  end

  -- --force: munged may be root's here, and its folder in /tmp.
  daemon('munged', '--foreground', '--force', '--key-file=' .. key,
    '--socket=' .. folder .. '/munge.socket', '--pid-file=' .. folder .. '/munged.pid',
    '--seed-file=' .. folder .. '/seed', '--num-threads=1')
  local up = processes.eventually(function()
    return unistd.access(folder .. '/munge.socket') ~= nil
  end, 20)
  if up then
    daemon('slurmctld', '-D', '-f', path)
    daemon('slurmd', '-D', '-f', path)
    up = processes.eventually(function()
      local status, output = processes.run({ [0] = 'sinfo', '--noheader', '--format=%t' },
        environment)
      return status == 0 and output == 'idle\n'
    end, 60)
  end
  if not up then
    local said = {}
    for i, process in ipairs(self.daemons) do said[i] = process:output() end
    self.stop()
    error('Slurm does not come up: ' .. table.concat(said), 2)
  end
  return self
end

return M
