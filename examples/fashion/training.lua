-- SPDX-License-Identifier: MIT
--- Data-parallel training of a perceptron (mlp.lua) through a store.
--
-- Each batch is split over some devices. Each device has weights of its own and computes the
-- gradients of its share; these are pushed by key, one array a device, the store adds them up
-- and updates its weights by the optimizer, and the devices pull them.
--
-- In a job of several workers each takes its share of every batch, and the devices of all are as
-- those of one: two workers of one device give the bits that one of two gives.

local ffi = require 'ffi'
local data = require 'fashion.data'
local history = require 'fashion.history'
local interrupt = require 'fashion.interrupt'
local mlp = require 'fashion.mlp'
local neap = require 'neap'
local nd = neap.nd

local M = {
  PARTS = { 'weight', 'bias' }, -- of a layer
}

local HIDDEN = { 256, 128 }
local PARTS = M.PARTS
local TEST_BATCH = 1000

--- What the weights or biases of a layer are called in the store.
function M.key(layer, part) return ('layer%d.%s'):format(layer, part) end
local key = M.key

-- ---- Setting up ----------------------------------------------------------------------------

--- A run at its beginning: first weights, each device's own, and a store that has neither those
-- nor an optimizer yet.
---@param opts table devices, kv, epochs, batch-size, seed; compress and threshold, if it has them
---@param train table what the network learns from
function M.new(opts, train)
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
  run.kv = neap.kv.create(opts.kv)
  local all = opts.devices * run.kv.num_workers
  if opts['batch-size'] < all then
    error(('--batch-size %d is too small for %d devices of %d workers'):format(opts['batch-size'],
      all, run.kv.num_workers), 0)
  end
  if opts.compress and opts.compress ~= 'none' then
    run.kv:set_gradient_compression { type = opts.compress, threshold = opts.threshold }
  end
  return run
end

-- Servers of these update at each worker's push, not once for all of them.
local ASYNC = { dist_async = true, dist_async_device = true, dist_device_async = true }

--- How many updates there are in a batch.
function M.updates_a_batch(run) return ASYNC[run.kv.type] and run.kv.num_workers or 1 end

--- Gives the store first weights, which the devices get too, and the optimizer.
function M.start(run, optimizer)
  for layer, p in ipairs(run.first) do
    for _, part in ipairs(PARTS) do
      run.kv:broadcast(key(layer, part), p[part], run.out[key(layer, part)])
    end
  end
  if run.kv.rank == 0 then run.kv:set_optimizer(optimizer) end
  run.kv:barrier() -- nobody pushes before it is set
  run.first = nil
end

--- An optimizer for a run.
---@param run table
---@param name string
---@param settings table<string, any>
function M.optimizer(run, name, settings)
  -- Gradients are sums; this makes them means.
  settings.rescale_grad = settings.rescale_grad or 1 / run.options['batch-size']
  return neap.optim.create(name, settings)
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

--- Which images of a batch of n are device i's of this worker, or, without i, all of its devices':
-- first, and past the last.
local function share_of(run, n, i)
  local count, all = #run.devices, #run.devices * run.kv.num_workers
  local before = run.kv.rank * count -- devices of workers before this one
  local first, last = before + (i or 1) - 1, before + (i or count)
  return math.floor(n * first / all), math.floor(n * last / all)
end

--- Queues one batch: gradients on each device, then push and pull of every key. Layers that
-- the next batch needs first have the higher priority.
---@param rows neap.Array the images' numbers
---@return neap.Array[] loss, neap.Array[] hits one for each device, still on their way
local function queue_batch(run, train, rows)
  local n, count = run.options['batch-size'], #run.devices
  local gradients, loss, hits = {}, {}, {}
  for i, device in ipairs(run.devices) do
    local share = rows:slice(share_of(run, n, i))
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

--- Trains until the end, or until a signal comes. Rank 0 tests, for all workers.
---@param run table
---@param train table
---@param test table
---@param shown table of progress.lua
---@param on_epoch? fun(epoch: integer, loss: number, test_loss: number, accuracy: number,
---  rate: number) after each epoch; rate in images a second
---@return integer? signal
function M.train(run, train, test, shown, on_epoch)
  local opts, n = run.options, run.options['batch-size']
  local function mean_loss() return run.history:loss() end
  local first, last = share_of(run, n) -- of each batch; losses and hits are of these images

  -- Results are read one batch late: while the last batch runs, the next one is queued.
  local queued
  local function collect()
    if not queued then return end
    run.history:batch(queued.epoch - 1 + queued.batch / run.batches, queued.batch,
      last - first, total(queued.loss), total(queued.hits))
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
    run.batch = 0
    if run.kv.rank == 0 then
      local test_loss, accuracy = evaluate(run, test)
      run.history:test_point(epoch, test_loss, accuracy)
      if on_epoch then on_epoch(epoch, loss, test_loss, accuracy, rate) end
    end
  end
end

return M
