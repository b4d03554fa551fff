-- SPDX-License-Identifier: MIT
--- Trains a multilayer perceptron on Fashion-MNIST, data-parallel, through a Neap store.
--
--   luajit examples/fashion_mnist.lua --help
--
-- Each batch is split over some devices. Each device has weights of its own and computes the
-- gradients of its share; these are pushed by key, one array a device, the store adds them up
-- and updates its weights by the optimizer, and the devices pull them. On one machine with one
-- processor the devices are logical ones; the program would be the same with others.
--
-- Its parts, in the order of their use, are in fashion/: options, data (idx), mlp, history,
-- progress, interrupt, checkpoint, chart. One seed gives the same bits of weights, whatever
-- the number of threads, and whether or not the run was interrupted and resumed.

local here = arg[0]:match('^(.*)/[^/]*$') or '.'
for _, place in ipairs { '/../lua/?/init.lua', '/../lua/?.lua', '/?.lua' } do
  package.path = here .. place .. ';' .. package.path
end

local ffi = require 'ffi'
local chart = require 'fashion.chart'
local checkpoint = require 'fashion.checkpoint'
local data = require 'fashion.data'
local files = require 'fashion.files'
local history = require 'fashion.history'
local interrupt = require 'fashion.interrupt'
local mlp = require 'fashion.mlp'
local neap = require 'neap'
local options = require 'fashion.options'
local progress = require 'fashion.progress'
local nd = neap.nd

local HIDDEN = { 256, 128 }
local PARTS = { 'weight', 'bias' } -- of a layer
local TEST_BATCH = 1000

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

local function key(layer, part) return ('layer%d.%s'):format(layer, part) end

--- The store, with first or resumed weights and the optimizer, and each device's own weights.
local function new_run(opts, train)
  local run = {
    options = opts,
    sizes = { train.pixels, HIDDEN[1], HIDDEN[2], data.CLASSES },
    batches = math.floor(train.n / opts['batch-size']), -- images left over wait for a shuffle
    epoch = 1, batch = 0, updates = 0, -- the position: `batch` batches of `epoch` are done
    devices = {},
    replicas = {}, -- weights of each device
    out = {}, -- the same by key, as pull wants them: key -> one array a device
  }
  run.history = history.new(run.batches)
  neap.seed(opts.seed)
  run.first = mlp.initial(run.sizes)
  for i = 1, opts.devices do
    run.devices[i] = neap.cpu(i - 1)
    run.replicas[i] = {}
    for layer, p in ipairs(run.first) do
      run.replicas[i][layer] = {}
      for _, part in ipairs(PARTS) do
        local copy = p[part]:copyto(run.devices[i])
        run.replicas[i][layer][part] = copy
        local name = key(layer, part)
        run.out[name] = run.out[name] or {}
        run.out[name][i] = copy
      end
    end
  end
  run.kv = attempt(neap.kv.create, opts.kv)
  return run
end

--- Takes up an interrupted run where it stopped.
local function restore(run, saved, path)
  local weights_file, states_file = checkpoint.files(path, saved)
  local weights = attempt(nd.load, weights_file)
  for layer, p in ipairs(run.first) do
    for _, part in ipairs(PARTS) do
      local loaded = not nd.is_array(weights) and weights[key(layer, part)]
      if not loaded then fail(weights_file .. ': lacks ' .. key(layer, part)) end
      attempt(loaded.copyto, loaded, p[part])
    end
  end
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
  local run = new_run(opts, train)
  run.lr = opts.lr or attempt(neap.optim.create, opts.optimizer):get('learning_rate')
  local optimizer = attempt(neap.optim.create, opts.optimizer, {
    learning_rate = run.lr,
    lr_scheduler = neap.lr_scheduler.cosine { max_update = opts.epochs * run.batches },
    rescale_grad = 1 / opts['batch-size'], -- gradients are sums; this makes them means
  })
  local states = saved and restore(run, saved, path)
  for layer, p in ipairs(run.first) do
    for _, part in ipairs(PARTS) do
      run.kv:broadcast(key(layer, part), p[part], run.out[key(layer, part)])
    end
  end
  run.kv:set_optimizer(optimizer)
  if states then attempt(run.kv.load_optimizer_states, run.kv, states) end
  run.first = nil
  return run
end

-- ---- Training ------------------------------------------------------------------------------

--- The order of the images in an epoch: a shuffle that depends on seed and epoch alone, so
-- that a resumed run finds it again.
---@return neap.Array int64
local function shuffled(n, seed, epoch)
  math.randomseed(seed * 16384 + epoch) -- a generator of LuaJIT's own, the same everywhere
  local order = ffi.new('int64_t[?]', n)
  for i = 0, n - 1 do order[i] = i end
  for i = n - 1, 1, -1 do
    local j = math.random(0, i)
    order[i], order[j] = order[j], order[i]
  end
  return nd.array(order, { shape = n })
end

--- Queues one batch: gradients on each device, then push and pull of every key. Layers that
-- the next batch needs first have the higher priority.
---@param rows neap.Array the images' numbers
---@return neap.Array[] loss, neap.Array[] hits one for each device, still on their way
local function queue_batch(run, train, rows)
  local n, count = run.options['batch-size'], #run.devices
  local gradients, loss, hits = {}, {}, {}
  for i, device in ipairs(run.devices) do
    local share = rows:slice(math.floor(n * (i - 1) / count), math.floor(n * i / count))
    gradients[i], loss[i], hits[i] = mlp.gradients(run.replicas[i],
      nd.take(train.images, share):as_in_context(device),
      nd.take(train.targets, share):as_in_context(device),
      nd.take(train.labels, share):as_in_context(device))
  end
  for layer = #run.replicas[1], 1, -1 do
    for _, part in ipairs(PARTS) do
      local pushed = {}
      for i = 1, count do pushed[i] = gradients[i][layer][part] end
      run.kv:push(key(layer, part), pushed, -layer)
      run.kv:pull(key(layer, part), run.out[key(layer, part)], -layer)
    end
  end
  return loss, hits
end

--- Waits for numbers on all devices, and adds them up.
local function total(arrays)
  local sum = 0
  for _, a in ipairs(arrays) do sum = sum + a:item() end
  return sum
end

--- Loss and accuracy on the test set; its batches go to the devices in turn.
local function evaluate(run, test)
  local loss, hits = {}, {}
  for first = 0, test.n - 1, TEST_BATCH do
    local last = math.min(first + TEST_BATCH, test.n)
    local i = #loss % #run.devices + 1
    local device = run.devices[i]
    loss[#loss + 1], hits[#hits + 1] = mlp.test(run.replicas[i],
      test.images:slice(first, last):as_in_context(device),
      test.targets:slice(first, last):as_in_context(device),
      test.labels:slice(first, last):as_in_context(device))
  end
  return total(loss) / test.n, total(hits) / test.n
end

--- Trains until the end, or until a signal comes.
---@return integer? signal
local function train_all(run, train, test)
  local opts, n = run.options, run.options['batch-size']
  local shown = progress.new(opts.epochs, run.batches, n)
  local function mean_loss() return run.history:loss() end

  -- Results are read one batch late: while the last batch runs, the next one is queued.
  local queued
  local function collect()
    if not queued then return end
    run.history:batch(queued.epoch - 1 + queued.batch / run.batches, queued.batch, n,
      total(queued.loss), total(queued.hits))
    queued = nil
  end

  for epoch = run.epoch, opts.epochs do
    shown:start()
    local order = shuffled(train.n, opts.seed, epoch)
    run.epoch = epoch
    for batch = run.batch + 1, run.batches do
      local loss, hits = queue_batch(run, train, order:slice((batch - 1) * n, batch * n))
      collect()
      queued = { epoch = epoch, batch = batch, loss = loss, hits = hits }
      run.batch, run.updates = batch, run.updates + 1
      shown:batch(epoch, batch, mean_loss)
      local signal = interrupt.pending()
      if signal then
        collect()
        return signal
      end
    end
    collect()
    local rate, loss = shown:rate(), run.history:loss()
    local test_loss, accuracy = evaluate(run, test)
    run.history:test_point(epoch, test_loss, accuracy)
    run.batch = 0
    shown:line(('epoch %' .. #tostring(opts.epochs) ..
      'd/%d  loss %.4f  test loss %.4f  test accuracy %.4f  %6.0f images/s'):format(epoch,
      opts.epochs, loss, test_loss, accuracy, rate))
  end
end

-- ---- Results -------------------------------------------------------------------------------

--- The store's weights by name, on the first device.
local function weights_of(run)
  local weights = {}
  for name, arrays in pairs(run.out) do weights[name] = arrays[1] end
  return weights
end

local function describe(run)
  local o = run.options
  return ('%s perceptron, %s with rate %g, batches of %d on %d device%s, store %s, seed %d')
    :format(table.concat(run.sizes, '-'), o.optimizer, run.lr, o['batch-size'], o.devices,
      o.devices == 1 and '' or 's', o.kv, o.seed)
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
  print(('Fashion-MNIST: %d images to learn from, %d to test on'):format(train.n, test.n))
  print(describe(run))

  local began = progress.now()
  local signal = train_all(run, train, test)
  if signal then
    local position = {
      options = opts, epoch = run.epoch, batch = run.batch, updates = run.updates,
      lines = run.history:lines(),
    }
    local path = attempt(checkpoint.save, opts.out, position, run.kv, weights_of(run))
    print(('\ninterrupted after %d of %d batches of epoch %d; to go on:\n  %s'):format(run.batch,
      run.batches, run.epoch, options.resume_command(arg, path)))
    return 128 + signal
  end
  local accuracy = run.history.test[#run.history.test][3]
  print(('test accuracy %.4f after %d epochs; trained for %.1f s'):format(accuracy, opts.epochs,
    progress.now() - began))
  local weights_path, curves_path = opts.out .. '/weights.safetensors', opts.out .. '/curves.svg'
  attempt(nd.save, weights_path, weights_of(run))
  made, why = files.write(curves_path, draw(run, accuracy))
  if not made then fail(why) end
  print('weights: ' .. weights_path)
  print('curves:  ' .. curves_path)
  run.kv:close()
  return 0
end

os.exit(main(), true)
