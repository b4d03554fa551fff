-- SPDX-License-Identifier: MIT
--- Trains the network of fashion_mnist.lua in one process, then as jobs of several, and prints a
-- table of how well each did: the same first weights and the same order of images for all.
--
--   luajit examples/fashion_jobs.lua                               -- the usual ones
--   luajit examples/fashion_jobs.lua -n 4 dist_async dist_sync:1bit -- some, and of four workers
--
-- Each job is started as anybody would, by `neap launch`; its command stands above its lines.

local here = arg[0]:match('^(.*)/[^/]*$') or '.'
for _, place in ipairs { '/../lua/?/init.lua', '/../lua/?.lua', '/?.lua' } do
  package.path = here .. place .. ';' .. package.path
end

local argparse = require 'argparse'
local data = require 'fashion.data'
local options = require 'fashion.options'
local signal = require 'posix.signal'

-- STORE, or STORE:COMPRESSION. The first row, of one process with as many devices as the jobs have
-- workers, is what they are compared with.
local JOBS = { 'dist_sync', 'dist_async', 'dist_sync:2bit' }

--- Ends the program with a message for its user.
local function fail(message)
  io.stderr:write('fashion_jobs: ', message, '\n')
  os.exit(1, true)
end

--- The program `neap`: of this tree, or else an installed one.
local function find_neap()
  local path = os.getenv('NEAP_PROGRAM') or here .. '/../build/release/neap'
  local file = io.open(path)
  if not file then return 'neap' end
  file:close()
  return path
end

local function read_arguments()
  local parser = argparse('luajit ' .. arg[0])
    :description('Trains on Fashion-MNIST in one process and in jobs of several, and prints a '
      .. 'table of accuracies.')
    :help_max_width(96)
  parser:argument('jobs', 'Each STORE or STORE:COMPRESSION. Default: ' ..
    table.concat(JOBS, ' ') .. '.'):args '*'
  local function number(names, target, high, default, text)
    parser:option(names, ('%s Default: %d.'):format(text, default)):argname 'N'
      :target(target):default(tostring(default)):convert(options.whole(1, high))
  end
  number('-n --num-workers', 'workers', 64, 2, 'Workers of each job, with one device each.')
  number('-s --num-servers', 'servers', 64, 2, 'Servers of each job.')
  number('--epochs', 'epochs', 1000, 10, 'How often all images are seen.')
  number('--batch-size', 'batch-size', 60000, 100, 'Images in a batch, of all workers together.')
  parser:option('--seed', 'Decides first weights and order of images. Default: 1.'):argname 'N'
    :default('1'):convert(options.whole(0, 2 ^ 31 - 1))
  parser:option('--out', 'Folder for weights and curves of the last one.'):argname 'DIR'
    :default 'out'
  parser:option('--data', 'Folder of the four files of Fashion-MNIST.'):argname 'DIR'
    :default(data.FOLDER)
  return parser:parse()
end

--- The words that start one: of one process without `job`.
local function command_of(opts, job)
  local words = {}
  local function add(...)
    for _, word in ipairs { ... } do words[#words + 1] = options.quote(tostring(word)) end
  end
  if job then add(find_neap(), 'launch', '-n', opts.workers, '-s', opts.servers) end
  add('luajit', here .. '/fashion_mnist.lua')
  if job then
    add('--kv', job.store, '--devices', 1)
    if job.compression then add('--compress', job.compression) end
  else
    add('--devices', opts.workers)
  end
  for _, name in ipairs { 'epochs', 'batch-size', 'seed', 'data', 'out' } do
    add('--' .. name, opts[name])
  end
  return table.concat(words, ' ')
end

--- Runs a command to its end, and shows how it goes.
---@return number? accuracy on the test set; nil when a signal ended it
local function accuracy_of(command)
  print('\n' .. command)
  local pipe = io.popen(command .. ' 2>&1; echo "status $?"')
  local said, status = {}, nil
  for line in pipe:lines() do
    status = line:match('^status (%d+)$')
    if status then break end
    said[#said + 1] = line
    if line:find('^epoch ') then print(line) end
  end
  pipe:close()
  if not status or tonumber(status) > 128 then return nil end -- the shell had the signal, too
  local output = table.concat(said, '\n')
  if status ~= '0' then fail(('it ended with status %s:\n%s'):format(status, output)) end
  return tonumber(output:match('test accuracy ([%d.]+) after')) or
    fail('it says nothing of its accuracy:\n' .. output)
end

local function main()
  io.stdout:setvbuf('line')
  local opts = read_arguments()
  local jobs = {}
  for i, word in ipairs(#opts.jobs > 0 and opts.jobs or JOBS) do
    local store, compression = word:match('^([^:]+):([^:]+)$')
    jobs[i] = { store = store or word, compression = compression }
  end
  -- Ctrl-C reaches what runs here, which ends in order; this program outlives it.
  signal.signal(signal.SIGINT, function() end, signal.SA_RESTART)

  local places = { one = ('one, %d device%s'):format(opts.workers, opts.workers > 1 and 's' or ''),
    many = ('%d worker%s, %d server%s'):format(opts.workers, opts.workers > 1 and 's' or '',
      opts.servers, opts.servers > 1 and 's' or '') }
  local rows = {}
  local base = accuracy_of(command_of(opts))
  local reached = base
  if base then rows[1] = ('| local | %s | as they are | %.4f | |'):format(places.one, base) end
  for _, job in ipairs(jobs) do
    reached = reached and accuracy_of(command_of(opts, job))
    if not reached then break end
    rows[#rows + 1] = ('| %s | %s | %s | %.4f | %+.4f |'):format(job.store, places.many,
      job.compression or 'as they are', reached, reached - base)
  end
  print(('\n| store | processes | gradients | test accuracy after %d epoch%s | against local |\n' ..
    '|---|---|---|---|---|'):format(opts.epochs, opts.epochs == 1 and '' or 's'))
  for _, row in ipairs(rows) do print(row) end
  if reached then return 0 end
  print(('interrupted: %d of %d runs are done'):format(#rows, #jobs + 1))
  return 128 + signal.SIGINT
end

os.exit(main(), true)
