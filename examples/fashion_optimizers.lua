-- SPDX-License-Identifier: MIT
--- Trains the network of fashion_mnist.lua with one optimizer after another, and prints a table of
--- how well each of them did: the same first weights and the same order of images for all.
--
--   luajit examples/fashion_optimizers.lua                     -- all of them
--   luajit examples/fashion_optimizers.lua adam adamw:0.0003   -- some, with rates of one's own
--
-- A few epochs tell how fast an optimizer begins, at a rate that suits it; they are no ranking.

local here = arg[0]:match('^(.*)/[^/]*$') or '.'
for _, place in ipairs { '/../lua/?/init.lua', '/../lua/?.lua', '/?.lua' } do
  package.path = here .. place .. ';' .. package.path
end

local argparse = require 'argparse'
local data = require 'fashion.data'
local interrupt = require 'fashion.interrupt'
local neap = require 'neap'
local options = require 'fashion.options'
local progress = require 'fashion.progress'
local training = require 'fashion.training'

-- Each with a rate that suits it, the same at every step. Not among them: test, which only adds up,
-- and group_adagrad, which has no rule for keys of one dimension, such as biases.
local RATES = {
  { 'sgd', 0.2 }, { 'nag', 0.02 }, { 'signum', 0.0002 }, { 'sgld', 3e-6 }, { 'dcasgd', 0.2 },
  { 'adam', 0.001 }, { 'adamw', 0.001 }, { 'adabelief', 0.001 }, { 'adamax', 0.001 },
  { 'nadam', 0.001 }, { 'adagrad', 0.01 }, { 'adadelta', 1 }, { 'rmsprop', 0.0005 },
  { 'ftrl', 0.5 }, { 'ftml', 0.001 }, { 'lamb', 0.0015 }, { 'lans', 0.002 }, { 'lars', 5 },
}

--- Ends the program with a message for its user.
local function fail(message)
  io.stderr:write('fashion_optimizers: ', message, '\n')
  os.exit(1, true)
end

local function attempt(f, ...)
  local ok, result = pcall(f, ...)
  if not ok then fail((tostring(result):gsub('^[^:]*%.lua:%d+: ', ''))) end
  return result
end

local function read_arguments()
  local parser = argparse('luajit ' .. arg[0])
    :description('Trains on Fashion-MNIST with each optimizer, and prints a table of accuracies.')
    :help_max_width(96)
  parser:argument('optimizers', 'Scripts in lua/optim, each NAME or NAME:RATE. Default: all.')
    :args '*'
  local function number(name, high, default, text)
    parser:option('--' .. name, ('%s Default: %d.'):format(text, default)):argname 'N'
      :target(name):default(tostring(default)):convert(options.whole(1, high))
  end
  number('epochs', 1000, 3, 'How often all images are seen.')
  number('batch-size', 60000, 100, 'Images in a batch.')
  number('devices', 64, 1, 'Logical devices a batch is split over.')
  number('seed', 2 ^ 31 - 1, 1, 'Decides first weights and order of images.')
  parser:option('--data', 'Folder of the four files of Fashion-MNIST.'):argname 'DIR'
    :default(data.FOLDER)
  return parser:parse()
end

--- The optimizers asked for, as { name, rate }.
local function chosen(words)
  if #words == 0 then return RATES end
  local usual, list = {}, {}
  for _, entry in ipairs(RATES) do usual[entry[1]] = entry[2] end
  for i, word in ipairs(words) do
    local name, rate = word:match('^([^:]*):(.*)$')
    if name and not (tonumber(rate) and tonumber(rate) > 0) then
      fail(("%s: '%s' is no number above 0"):format(name, rate))
    end
    name = name or word
    local o = attempt(neap.optim.create, name)
    list[i] = { name, tonumber(rate) or usual[name] or o:get 'learning_rate' }
  end
  return list
end

--- Trains with one of them.
---@return integer? signal
---@return number? accuracy on the test set
---@return number? seconds
local function try(opts, entry, train, test)
  local began = progress.now()
  local run = attempt(training.new, opts, train)
  local settings = { learning_rate = entry[2] }
  -- It draws weights from the posterior, and wants the gradient of all images together.
  if entry[1] == 'sgld' then settings.rescale_grad = train.n / opts['batch-size'] end
  attempt(training.start, run, attempt(training.optimizer, run, entry[1], settings))
  local label = ('%-9s'):format(entry[1])
  local shown = progress.new(opts.epochs, run.batches, opts['batch-size'], label)
  local reached
  local signal = attempt(training.train, run, train, test, shown,
    function(_, _, _, accuracy) reached = accuracy end)
  run.kv:close()
  if signal then return signal end
  local seconds = progress.now() - began
  shown:line(('%s  rate %-7g  test accuracy %.4f  %.1f s'):format(label, entry[2], reached,
    seconds))
  return nil, reached, seconds
end

local function print_table(rows, opts)
  print(('\n| optimizer | learning rate | test accuracy after %d epoch%s |\n|---|---|---|'):format(
    opts.epochs, opts.epochs == 1 and '' or 's'))
  for _, row in ipairs(rows) do print(('| %s | %g | %.4f |'):format(row[1], row[2], row[3])) end
end

local function main()
  io.stdout:setvbuf('line')
  local opts = read_arguments()
  opts.kv = 'local'
  local list = chosen(opts.optimizers)
  interrupt.block() -- before Neap's threads are there
  local train, test = data.load(opts.data)
  if not train then fail(test) end
  if train.n < opts['batch-size'] then
    fail(('--batch-size %d: there are %d images'):format(opts['batch-size'], train.n))
  end
  if opts['batch-size'] < opts.devices then
    fail(('--batch-size %d is too small for --devices %d'):format(opts['batch-size'],
      opts.devices))
  end
  local rows, signal = {}, nil
  for _, entry in ipairs(list) do
    local accuracy
    signal, accuracy = try(opts, entry, train, test)
    if signal then break end
    rows[#rows + 1] = { entry[1], entry[2], accuracy }
  end
  table.sort(rows, function(a, b) return a[3] > b[3] end)
  print_table(rows, opts)
  if signal then
    print(('interrupted: %d of %d optimizers are done'):format(#rows, #list))
    return 128 + signal
  end
  return 0
end

os.exit(main(), true)
