-- SPDX-License-Identifier: MIT
--- `neap optimizer`: looks at the optimizer of a job that runs, and changes it.
--
-- A program: `neap run` and the command `neap optimizer` start it with the command's arguments.

local HELP = [[
Usage: neap optimizer [--server URL] [show | set ... | rollback | history]

Looks at the optimizer of a job that runs, and changes it, between two updates of each key.

  show                        what updates, with its settings (the default)
  set FILE [NAME=VALUE ...]   another one: a script's file, or the name of one that comes along
  set NAME=VALUE ...          other settings of the one there is
  rollback                    the one before, with the states that it had
  history                     the last changes

Options, and the environment variables that do the same:
  -r, --server URL       NEAP_ROOT_URI       the address of the job's scheduler
      --timeout SECONDS  NEAP_TIMEOUT        to wait for an answer: 10
      --help
                         NEAP_SECRET         the job's
                         NEAP_ADMIN_SECRET   where servers want it of who changes the optimizer

A script that fails is refused with its line, and the old one stays. Status 0: done.
]]

local function fail(status, format, ...)
  io.stderr:write('neap optimizer: ', (format:format(...)), '\n')
  os.exit(status, true)
end

local function misuse(format, ...)
  fail(2, format .. '\nTry: neap optimizer --help', ...)
end

-- ---- Arguments -----------------------------------------------------------------------------

local LONG = { ['--server'] = 'server', ['-r'] = 'server', ['--root-uri'] = 'server',
  ['--timeout'] = 'timeout' }

--- Options by name, and the words that are none.
local function read_arguments(args)
  local options, words, i = {}, {}, 1
  while i <= #args do
    local name, value = args[i]:match('^(%-%-[%a-]+)=(.*)$')
    name = name or args[i]
    if name == '--help' or name == '-h' then
      io.write(HELP)
      os.exit(0, true)
    elseif LONG[name] then
      if not value then
        i = i + 1
        value = args[i] or misuse('%s needs a value', name)
      end
      options[LONG[name]] = value
    elseif name:sub(1, 1) == '-' then
      misuse('there is no option %s', name)
    else
      words[#words + 1] = args[i]
    end
    i = i + 1
  end
  return options, words
end

--- Settings by name: numbers, true, false, and texts.
local function read_settings(words, first)
  local settings, WORDS = {}, { ['true'] = true, ['false'] = false }
  for i = first, #words do
    local name, text = words[i]:match('^([%a_][%w_]*)=(.*)$')
    if not name then misuse('what is %q? NAME=VALUE is wanted', words[i]) end
    local value = WORDS[text]
    if value == nil then value = tonumber(text) or text end
    settings[name] = value
  end
  return settings
end

-- ---- Answers -------------------------------------------------------------------------------

local function age(seconds)
  if seconds < 120 then return ('%d s'):format(seconds) end
  if seconds < 7200 then return ('%d min'):format(seconds / 60) end
  return ('%.1f h'):format(seconds / 3600)
end

local function show(kv)
  local o = kv:optimizer()
  if not o then
    print 'no optimizer: a round\'s sum becomes the value'
    return
  end
  local names, updates = {}, 0
  for name in pairs(o.settings) do names[#names + 1] = name end
  table.sort(names)
  for _, server in ipairs(kv:stats().servers) do updates = updates + server.updates end
  print(('%s, version %d, hash %s'):format(o.name, o.version, o.hash))
  for _, change in ipairs(kv:optimizer_history()) do
    if change.version == o.version and change.what ~= 'settings' then
      o.since = change.time
    end
  end
  if o.since then print(('age       %s'):format(age(os.time() - o.since))) end
  print(('updates   %d of keys, on %d servers'):format(updates, kv.num_servers))
  for i, name in ipairs(names) do
    print(('%-9s %s = %s'):format(i == 1 and 'settings' or '', name, tostring(o.settings[name])))
  end
end

local function is_file(name)
  local file = io.open(name, 'rb')
  if file then file:close() end
  return file ~= nil
end

local function set(kv, words)
  if #words < 2 then misuse('set: which script, or which settings?') end
  if words[2]:find('=', 1, true) then
    kv:set_hyper(read_settings(words, 2))
    print(('version %d, with new settings'):format(kv:optimizer().version))
    return
  end
  local optim, settings = require('neap').optim, read_settings(words, 3)
  local make = is_file(words[2]) and optim.load or optim.create
  local o = make(words[2], settings)
  print(('%s, version %d'):format(o.name, kv:set_optimizer(o)))
end

local function rollback(kv)
  kv:rollback_optimizer()
  local o = kv:optimizer()
  print(('%s, version %d'):format(o.name, o.version))
end

local function history(kv)
  for _, c in ipairs(kv:optimizer_history()) do
    print(('%s  version %-3d %-12s %s  %-8s  %s'):format(os.date('%Y-%m-%d %H:%M:%S', c.time),
      c.version, c.name, c.hash, c.what, c.who))
  end
end

local COMMANDS = { show = show, set = set, rollback = rollback, history = history }

local function main(args)
  local options, words = read_arguments(args)
  local command = COMMANDS[words[1] or 'show'] or
    misuse('there is no %s; there are show, set, rollback, history', words[1])
  local uri = options.server or os.getenv 'NEAP_ROOT_URI' or
    misuse('which job? --server is the address of its scheduler')
  local timeout = options.timeout or os.getenv 'NEAP_TIMEOUT' or '10'
  local kv = require('neap').kv.create('dist_sync', { root_uri = uri, observer = true,
    timeout = tonumber(timeout) or misuse('%s is no number of seconds', timeout) })
  local ok, why = pcall(command, kv, words)
  kv:close()
  if not ok then error(why, 0) end
end

local ok, why = pcall(main, { ... })
if not ok then fail(1, '%s', tostring(why)) end
