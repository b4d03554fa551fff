-- SPDX-License-Identifier: MIT
--- Trains a multilayer perceptron on Fashion-MNIST, data-parallel, through a Neap store.
--
--   luajit examples/fashion_mnist.lua --help
--   neap launch -n 2 luajit examples/fashion_mnist.lua --kv dist_sync --devices 1
--
-- Each batch is split over some devices, whose gradients the store adds up. On one machine with
-- one processor the devices are logical ones; the program would be the same with others. Of several
-- workers each takes its share of every batch; rank 0 speaks and saves for all.
--
-- Its parts, in the order of their use, are in fashion/: options, data (idx), training (mlp),
-- history, progress, interrupt, checkpoint, chart. One seed gives the same bits of weights,
-- whatever the number of threads, and whether or not the run was interrupted and resumed.

local here = arg[0]:match('^(.*)/[^/]*$') or '.'
for _, place in ipairs { '/../lua/?/init.lua', '/../lua/?.lua', '/?.lua' } do
  package.path = here .. place .. ';' .. package.path
end

local chart = require 'fashion.chart'
local checkpoint = require 'fashion.checkpoint'
local data = require 'fashion.data'
local files = require 'fashion.files'
local interrupt = require 'fashion.interrupt'
local neap = require 'neap'
local options = require 'fashion.options'
local progress = require 'fashion.progress'
local training = require 'fashion.training'
local nd = neap.nd

--- Ends the program with a message for its user.
local function fail(message)
  io.stderr:write('fashion_mnist: ', message, '\n')
  os.exit(1, true)
end

--- Calls what may raise because of what the user gave; the message goes to them without the
-- place in the source.
local function attempt(f, ...)
  local results = { pcall(f, ...) }
  if not results[1] then fail((tostring(results[2]):gsub('^[^:]*%.lua:%d+: ', ''))) end
  return unpack(results, 2)
end

-- ---- Setting up ----------------------------------------------------------------------------

--- Takes up an interrupted run where it stopped.
local function restore(run, saved, path)
  local weights_file, states_file = checkpoint.files(path, saved)
  local weights = attempt(nd.load, weights_file)
  for layer, p in ipairs(run.first) do
    for _, part in ipairs(training.PARTS) do
      local loaded = not nd.is_array(weights) and weights[training.key(layer, part)]
      if not loaded then fail(weights_file .. ': lacks ' .. training.key(layer, part)) end
      attempt(loaded.copyto, loaded, p[part])
    end
  end
  if run.kv.num_servers > 0 then fail('--resume: the run to resume was of one process') end
  if saved.batch > run.batches or saved.epoch < 1 then fail(path .. ': is damaged') end
  if saved.epoch > run.options.epochs then
    fail(('--epochs %d: the run to resume is in epoch %d'):format(run.options.epochs, saved.epoch))
  end
  run.epoch, run.batch, run.updates = saved.epoch, saved.batch, saved.updates
  for _, line in ipairs(saved.lines) do
    if not run.history:read_line(line) then fail(path .. ': is damaged: ' .. line) end
  end
  return states_file
end

local function start(opts, train, saved, path)
  local run = attempt(training.new, opts, train)
  run.lr = opts.lr or attempt(neap.optim.create, opts.optimizer):get('learning_rate')
  local optimizer = attempt(training.optimizer, run, opts.optimizer, {
    learning_rate = run.lr,
    lr_scheduler = neap.lr_scheduler.cosine {
      max_update = opts.epochs * run.batches * training.updates_a_batch(run),
      final_lr = run.lr / 100, -- not 0: some rules divide by the rate
    },
  })
  local states = saved and restore(run, saved, path)
  attempt(training.start, run, optimizer)
  if states then attempt(run.kv.load_optimizer_states, run.kv, states) end
  return run
end

--- Trains, and tells how each epoch went.
---@return integer? signal
local function train_all(run, train, test)
  local opts = run.options
  local shown = run.kv.rank > 0 and progress.silent() or
    progress.new(opts.epochs, run.batches, opts['batch-size'])
  local format = 'epoch %' .. #tostring(opts.epochs) ..
    'd/%d  loss %.4f  test loss %.4f  test accuracy %.4f  %6.0f images/s'
  return training.train(run, train, test, shown, function(epoch, loss, test_loss, accuracy, rate)
    shown:line(format:format(epoch, opts.epochs, loss, test_loss, accuracy, rate))
  end)
end

-- ---- Results -------------------------------------------------------------------------------

--- The store's weights by name, on the first device.
local function weights_of(run)
  local weights = {}
  for name, arrays in pairs(run.out) do weights[name] = arrays[1] end
  return weights
end

local function describe(run)
  local o, workers = run.options, run.kv.num_workers
  return ('%s perceptron, %s with rate %g, batches of %d on %d device%s%s, store %s%s, seed %d')
    :format(table.concat(run.sizes, '-'), o.optimizer, run.lr, o['batch-size'], o.devices,
      o.devices == 1 and '' or 's',
      workers > 1 and (' of each of %d workers'):format(workers) or '', o.kv,
      o.compress ~= 'none' and (' with %s gradients'):format(o.compress) or '', o.seed)
end

local function draw(run, accuracy)
  local h = run.history
  local panels = {}
  for i, what in ipairs { 'loss', 'accuracy' } do
    panels[i] = {
      title = what, x_label = 'epoch', x_max = run.options.epochs, x_whole = true,
      series = {
        { name = 'training', points = h:curve('train', what) },
        { name = 'test', points = h:curve('test', what), dots = true },
      },
    }
  end
  return chart.svg {
    title = ('Fashion-MNIST: test accuracy %.4f'):format(accuracy), note = describe(run),
    panels = panels,
  }
end

--- Saves where training is, for --resume. Not in a job: its workers stop after different batches.
local function interrupted(run)
  local place = ('\ninterrupted after %d of %d batches of epoch %d'):format(run.batch, run.batches,
    run.epoch)
  if run.kv.num_servers > 0 then
    print(place)
    return
  end
  local position = {
    options = run.options, epoch = run.epoch, batch = run.batch, updates = run.updates,
    lines = run.history:lines(),
  }
  local path = attempt(checkpoint.save, run.options.out, position, run.kv, weights_of(run))
  print(('%s; to go on:\n  %s'):format(place, options.resume_command(arg, path)))
end

--- Writes weights and curves.
local function finish(run, seconds)
  local opts = run.options
  local accuracy = run.history.test[#run.history.test][3]
  print(('test accuracy %.4f after %d epoch%s; trained for %.1f s'):format(accuracy, opts.epochs,
    opts.epochs == 1 and '' or 's', seconds))
  local weights_path, curves_path = opts.out .. '/weights.safetensors', opts.out .. '/curves.svg'
  attempt(nd.save, weights_path, weights_of(run))
  local made, why = files.write(curves_path, draw(run, accuracy))
  if not made then fail(why) end
  print('weights: ' .. weights_path)
  print('curves:  ' .. curves_path)
end

local function main()
  io.stdout:setvbuf('line') -- a log shows where training is, too
  local given = options.parse(arg)
  local saved, why
  if given.resume then
    saved, why = checkpoint.read(given.resume)
    if not saved then fail(why) end
  end
  local opts
  opts, why = options.complete(given, saved and saved.options)
  if not opts then fail(why) end
  local made
  made, why = files.make_folder(opts.out)
  if not made then fail(why) end

  interrupt.block() -- before Neap's threads are there
  local train, test = data.load(opts.data)
  if not train then fail(test) end
  if train.n < opts['batch-size'] then
    fail(('--batch-size %d: there are %d images'):format(opts['batch-size'], train.n))
  end
  local run = start(opts, train, saved, given.resume)
  local speaks = run.kv.rank == 0
  if speaks then
    print(('Fashion-MNIST: %d images to learn from, %d to test on'):format(train.n, test.n))
    print(describe(run))
  end
  local began = progress.now()
  local signal = train_all(run, train, test)
  if speaks and signal then
    interrupted(run)
  elseif speaks then
    finish(run, progress.now() - began)
  end
  run.kv:close()
  return signal and 128 + signal or 0
end

os.exit(main(), true)
