-- SPDX-License-Identifier: MIT
-- Stores across processes: jobs of real processes on this host. Each worker runs a script of its
-- own, which raises if something is not as it should be; the job's status says so.

local here = debug.getinfo(1, 'S').source:match('^@(.*/)') or './'
local processes = dofile(here .. 'processes.lua')

after_each(processes.clean)

-- What every worker's script begins with.
local PRELUDE = [[
local neap = require 'neap'
local nd = neap.nd

-- All elements of an array are this number.
local function all(wanted, array, what)
  if array.stype ~= 'default' then array = array:tostype 'default' end
  local low, high = nd.min(array):item(), nd.max(array):item()
  if low ~= wanted or high ~= wanted then
    error(('%s: %g .. %g where %g is wanted'):format(what or '', low, high, wanted), 2)
  end
end

-- Two arrays are the same bits (no NaN among them).
local function same(wanted, array, what)
  if nd.min(nd.equal(wanted, array)):item() ~= 1 then
    error(('%s: not the same'):format(what or ''), 2)
  end
end

-- f raises an error with these texts.
local function raises(f, ...)
  local ok, why = pcall(f)
  if ok then error('nothing was raised', 2) end
  for _, text in ipairs { ... } do
    if not tostring(why):find(text, 1, true) then
      error(('%q is not in: %s'):format(text, why), 2)
    end
  end
end

-- What "rank of" may be in a sum over all workers: 1 + 2 + ... + n.
local function sum_of_ranks(kv) return kv.num_workers * (kv.num_workers + 1) / 2 end

]]

-- A minute on any machine that a spec may meet; lost processes are noticed earlier, by connections.
local ENVIRONMENT = { NEAP_TIMEOUT = '60', NEAP_NUM_THREADS = '1', NEAP_LOG = 'warn',
  LUA_PATH = ('%slua/?.lua;%slua/?/init.lua;;'):format(processes.root, processes.root) }

local function environment(more)
  local all = {}
  for name, value in pairs(ENVIRONMENT) do all[name] = value end
  for name, value in pairs(more or {}) do all[name] = value end
  return all
end

local function write_script(text)
  return processes.write(processes.folder() .. '/worker.lua', PRELUDE .. text)
end

-- Runs a job to its end: its status and output.
local function launch(n, s, text, more)
  return processes.run_neap({ 'launch', '-n', tostring(n), '-s', tostring(s), '--grace', '30', '--',
    'luajit', write_script(text) }, environment(more))
end

-- The same, which must go well.
local function job(n, s, text, more)
  local status, output = launch(n, s, text, more)
  assert(status == 0, output)
  return output
end

describe('dist_sync', function()
  -- MXNet's worked case: weights of ones, the optimizer test with rate 2, worker r pushes r + 1.
  local SUMS = [[
    local kv = neap.kv.create 'dist_sync'
    assert(kv.type == 'dist_sync' and kv.rank >= 0 and kv.rank < kv.num_workers)
    local cases = {}
    for _, dtype in ipairs { 'float32', 'float16' } do
      for _, shape in ipairs { { 2, 3 }, { 1200, 1200 }, { 1211, 1211 } } do
        cases[#cases + 1] = { key = dtype .. shape[1], shape = shape, opts = { dtype = dtype } }
      end
    end
    for _, c in ipairs(cases) do kv:init(c.key, nd.ones(c.shape, c.opts)) end
    if kv.rank == 0 then assert(kv:set_optimizer(neap.optim.test { rescale_grad = 2 }) == 1) end
    kv:barrier()
    for i = 1, 3 do
      for _, c in ipairs(cases) do
        kv:push(c.key, nd.full(c.shape, kv.rank + 1, c.opts))
        c.out = nd.zeros(c.shape, c.opts)
        kv:pull(c.key, c.out)
      end
      for _, c in ipairs(cases) do all(1 + 2 * i * sum_of_ranks(kv), c.out, c.key) end
    end
    kv:close()
    kv:close()
    raises(function() kv:barrier() end, 'closed')
    raises(function() kv:push(cases[1].key, cases[1].out) end, 'closed')
    raises(function() kv:pull(cases[1].key, cases[1].out) end, 'closed')]]

  for _, n in ipairs { 2, 4 } do
    for s = 1, 3 do
      it(('adds up what %d workers push to %d servers'):format(n, s), function()
        job(n, s, SUMS)
      end)
    end
  end

  it('updates the rows that each worker pushes, and those alone', function()
    job(3, 2, [[
      local ROWS, WIDTH = 1000000, 3 -- split over both servers
      local kv = neap.kv.create 'dist_sync'
      kv:init('table', nd.sparse.zeros('row_sparse', { ROWS, WIDTH }))
      if kv.rank == 0 then kv:set_optimizer(neap.optim.test { rescale_grad = 2 }) end
      kv:barrier()
      local function rows_of(ids, value)
        return nd.sparse.row_sparse(nd.full({ #ids, WIDTH }, value), ids, { ROWS, WIDTH })
      end
      local shared, last = 500000, ROWS - 1
      for i = 1, 2 do
        local own = 10 * (kv.rank + 1)
        -- Worker 2 pushes nothing in the second round.
        if i == 2 and kv.rank == 2 then
          kv:push('table', nd.sparse.zeros('row_sparse', { ROWS, WIDTH }))
        else
          kv:push('table', rows_of({ own, shared, last }, kv.rank + 1))
        end
      end
      local out = nd.sparse.zeros('row_sparse', { ROWS, WIDTH })
      kv:row_sparse_pull('table', out, { last, 30, 10, 20, 10, 11, shared, last })
      local got = {}
      local ids, values = out.indices:totable(), out.values:totable()
      for i, id in ipairs(ids) do got[id] = values[i] end
      local wanted = { [10] = 2 * 2 * 1, [20] = 2 * 2 * 2, [30] = 2 * 3, [11] = 0,
        [shared] = 2 * (6 + 3), [last] = 2 * (6 + 3) }
      for id, value in pairs(wanted) do
        for column = 1, WIDTH do
          local is = got[id] and got[id][column] or 0
          assert(is == value, ('row %d: %g where %g is wanted'):format(id, is, value))
        end
        got[id] = nil
      end
      assert(next(got) == nil, 'a row that was not asked for')
      local before = nd.full({ ROWS, WIDTH }, 7)
      raises(function() kv:row_sparse_pull('table', before, { 1 }) end, 'table')
      all(7, before)
      kv:close()]])
  end)

  it('takes the first values of rank 0, whatever order the others init in', function()
    job(3, 2, [[
      local DTYPES = { 'float32', 'float64', 'float16', 'bfloat16', 'int8', 'uint8', 'int32',
        'int64' }
      local kv = neap.kv.create 'dist_sync'
      local keys, values, outs = {}, {}, {}
      for i = 1, 100 do
        local k = (i * (2 * kv.rank + 1) + kv.rank) % 101 -- 101 is prime: another order each
        if k ~= 0 then keys[#keys + 1] = k end
      end
      for i, k in ipairs(keys) do
        local opts = { dtype = DTYPES[k % #DTYPES + 1] }
        values[i] = nd.full({ k % 7 + 1, 2 }, kv.rank == 0 and k or 0, opts)
        outs[i] = nd.zeros({ k % 7 + 1, 2 }, opts)
      end
      kv:init(keys, values)
      kv:pull(keys, outs)
      for i, k in ipairs(keys) do all(k, outs[i], 'key ' .. k) end
      raises(function() kv:init(keys[1], values[1]) end, 'key ' .. keys[1])
      assert(kv:contains(keys[1]) and not kv:contains(1000) and #kv:keys() == #keys)
      local out = nd.zeros { 2 }
      kv:broadcast(200, nd.full({ 2 }, kv.rank + 5), out)
      all(5, out)
      kv:close()]])
  end)

  it('raises a mistake in the worker that made it, and the others go on', function()
    job(3, 2, [[
      local kv = neap.kv.create 'dist_sync'
      kv:init({ 'w', 'v' }, { nd.ones { 2, 3 }, nd.ones { 4 } })
      if kv.rank == 1 then
        local out = nd.full({ 3, 2 }, 9)
        raises(function() kv:push('x', nd.ones { 2, 3 }) end, "'x'")
        raises(function() kv:pull('x', out) end, "'x'")
        raises(function() kv:push('w', nd.ones { 3, 2 }) end, "'w'", '(3,2)', '(2,3)')
        raises(function() kv:pull('w', out) end, "'w'", '(3,2)', '(2,3)')
        raises(function() kv:push('w', nd.ones({ 2, 3 }, { dtype = 'int8' })) end, "'w'", 'int8')
        raises(function() kv:push({ 'w', 'v' }, { nd.ones { 2, 3 }, nd.ones { 5 } }) end, "'v'")
        raises(function() kv:push({ 'w', 1 }, { nd.ones { 2, 3 }, nd.ones { 5 } }) end,
          'inconsistent types of keys')
        raises(function() kv:set_updater(function() end) end, 'dist', 'set_optimizer')
        raises(function() kv:set_hyper { learning_rate = 1 } end, 'set_optimizer')
        local schedule = neap.lr_scheduler.poly { max_update = 9 }
        raises(function() kv:set_hyper { lr_scheduler = schedule } end, 'set_optimizer')
        raises(function() kv:save_optimizer_states '/tmp/none' end, 'set_optimizer')
        raises(function()
          kv:set_optimizer(neap.optim.load(
            "return { name = 'bad', update = function(w, g, s, p) return w * p.none end }"))
        end, 'bad:1', 'none')
        all(9, out)
        assert(kv:optimizer() == nil)
      end
      kv:push('w', nd.full({ 2, 3 }, kv.rank + 1))
      local out = nd.zeros { 2, 3 }
      kv:pull('w', out)
      all(6, out)
      kv:close()]])
  end)

  it('compresses pushes to two bits, and keeps the rest', function()
    job(3, 2, [[
      local kv = neap.kv.create 'dist_sync'
      raises(function() kv:set_gradient_compression { type = '3bit' } end, '2bit', '1bit')
      kv:set_gradient_compression { type = '2bit', threshold = 0.5 }
      local n = kv.num_workers
      local KEYS = { 'push', 'pushpull', 'large' } -- in one order: each waits for the others
      local shapes = { push = { 5, 3 }, pushpull = { 5, 3 }, large = { 1100, 1000 } }
      for _, key in ipairs(KEYS) do kv:init(key, nd.zeros(shapes[key])) end
      if kv.rank == 0 then kv:set_optimizer(neap.optim.test { rescale_grad = 2 }) end
      kv:barrier()
      local pushes, wanted = { 0, .4, .1, .2, .3, .5 }, { 0, 0, n, n, 2 * n, 3 * n }
      for i = 1, #pushes do
        for _, key in ipairs(KEYS) do
          local shape = shapes[key]
          local value, out = nd.full(shape, pushes[i]), nd.full(shape, -1)
          if key == 'pushpull' then
            kv:pushpull(key, value, out)
          else
            kv:push(key, value)
            kv:pull(key, out)
          end
          all(wanted[i], out, key .. ' ' .. i)
        end
      end
      kv:close()]])
  end)

  -- One process that pushes lists of as many arrays gives the same bits: the sums are in the order
  -- of ranks, keys that are split over servers too, norms included.
  for _, name in ipairs { 'adam', 'lamb' } do
    it('gives the bits of one process with as many devices: ' .. name, function()
      job(3, 2, ([[
        local NAME, STEPS = '%s', 100
        local SCHEDULED = NAME == 'lamb'
        local kv = neap.kv.create('dist_sync')
        local shapes = { bias = { 5 }, small = { 3, 4 }, split = { 7, 11 } }
        local function first(key)
          neap.seed(#key)
          return nd.random.normal(0, 1, shapes[key])
        end
        local function gradient(key, step, rank)
          neap.seed(1000 * step + 10 * #key + rank)
          return nd.random.normal(0, 1, shapes[key])
        end
        local function optimizer()
          return neap.optim[NAME] { learning_rate = 0.01, wd = 0.1, rescale_grad = 1 / 3,
            lr_scheduler = SCHEDULED and neap.lr_scheduler.cosine { max_update = STEPS } or false }
        end
        local alone = neap.kv.create 'local'
        for key in pairs(shapes) do
          kv:init(key, first(key))
          alone:init(key, first(key))
        end
        if kv.rank == 0 then kv:set_optimizer(optimizer()) end
        kv:barrier()
        alone:set_optimizer(optimizer())
        local far, near = {}, {}
        for key, shape in pairs(shapes) do
          far[key], near[key] = nd.zeros(shape), nd.zeros(shape)
        end
        for step = 1, STEPS do
          for key in pairs(shapes) do
            local list = {}
            for rank = 0, kv.num_workers - 1 do list[rank + 1] = gradient(key, step, rank) end
            kv:push(key, list[kv.rank + 1])
            kv:pull(key, far[key])
            alone:push(key, list)
          end
          -- Schedules go by the most updates of any key: no key may be a step ahead then.
          for _, array in pairs(SCHEDULED and far or {}) do array:wait_to_read() end
        end
        for key in pairs(shapes) do
          alone:pull(key, near[key])
          same(near[key], far[key], key)
        end
        kv:close()]]):format(name), { NEAP_BIGARRAY_BOUND = '20' })
    end)
  end

  it('goes on without a worker that has closed', function()
    job(3, 2, [[
      local kv = neap.kv.create 'dist_sync'
      kv:init('w', nd.zeros(4))
      local rounds = 2 + kv.rank -- rank 0 has the fewest batches
      local out = nd.zeros(4)
      for i = 1, rounds do
        kv:push('w', nd.full(4, kv.rank + 1))
        kv:pull('w', out)
      end
      all(({ [0] = 6, 5, 3 })[kv.rank], out) -- the sum of those who are left
      kv:close()]])
  end)

  it('counts a second push of a round as one of the next', function()
    job(2, 1, [[
      local kv = neap.kv.create 'dist_sync'
      kv:init('w', nd.zeros(4))
      local out = nd.zeros(4)
      if kv.rank == 0 then
        kv:push('w', nd.full(4, 1))
        kv:push('w', nd.full(4, 10))
      else
        kv:push('w', nd.full(4, 2))
        kv:pull('w', out)
        all(3, out)
        kv:push('w', nd.full(4, 20))
      end
      kv:pull('w', out)
      all(30, out)
      kv:close()]])
  end)

  it('sends settings, tells what the servers have, and takes another optimizer', function()
    job(2, 2, [[
      local kv = neap.kv.create 'dist_sync'
      kv:init({ 'a', 'b' }, { nd.zeros(4), nd.zeros(6) })
      assert(kv:is_capable 'optimizer')
      if kv.rank == 0 then
        assert(kv:optimizer() == nil)
        assert(kv:set_optimizer(neap.optim.sgd { learning_rate = 1 }) == 1)
      end
      kv:barrier()
      local function step(wanted)
        local out = { nd.zeros(4), nd.zeros(6) }
        kv:push({ 'a', 'b' }, { nd.ones(4), nd.ones(6) })
        kv:pull({ 'a', 'b' }, out)
        all(wanted, out[1])
        all(wanted, out[2])
        kv:barrier()
      end
      step(-2)
      if kv.rank == 0 then kv:set_learning_rate(2) end
      kv:barrier()
      step(-6)
      if kv.rank == 0 then
        kv:set_hyper { rescale_grad = 0.5 }
        local o = kv:optimizer()
        assert(o.name == 'sgd' and o.version == 1 and o.settings.learning_rate == 2 and
          o.settings.rescale_grad == 0.5 and #o.hash == 16)
        raises(function() kv:set_hyper { learning_rat = 1 } end, 'learning_rat')
      end
      kv:barrier()
      step(-8)
      if kv.rank == 1 then
        assert(kv:optimizer().name == 'sgd')
        assert(kv:set_optimizer(neap.optim.test {}) == 2)
        raises(function()
          kv:set_optimizer(neap.optim.load(
            "return { name = 'bad', update = function(w, g, s, p) return w * p.none end }"))
        end, 'bad:1', 'none')
        assert(kv:optimizer().name == 'test' and kv:optimizer().version == 2)
      end
      kv:barrier()
      step(-6)
      if kv.rank == 0 then assert(kv:rollback_optimizer() == 1) end
      kv:barrier()
      local back = kv:optimizer()
      assert(back.name == 'sgd' and back.version == 1 and back.settings.rescale_grad == 0.5)
      step(-8)
      if kv.rank == 1 then raises(function() kv:rollback_optimizer() end, 'one step back') end
      local stats = kv:stats()
      assert(#stats.servers == 2 and stats.servers[1].server == 0 and
        stats.servers[2].bytes_received > 0)
      raises(function() kv:send_command_to_servers(1, 'anybody?') end, 'controller')
      kv:close()]])
  end)

  it('saves states of all servers in one file, for another number of servers', function()
    local folder = processes.folder()
    local text = [[
      local FILE, FIRST, LAST = '%s', %d, %d
      local kv = neap.kv.create 'dist_sync'
      local shapes = { w = { 3, 5 }, v = { 4 } }
      local function gradient(key, step)
        neap.seed(10 * step + #key + shapes[key][1])
        return nd.random.normal(0, 1, shapes[key])
      end
      local weights = FIRST > 1 and nd.load(FILE .. '.weights.npz') or {}
      for key, shape in pairs(shapes) do kv:init(key, weights[key] or nd.ones(shape)) end
      local alone = neap.kv.create 'local'
      alone:init({ 'w', 'v' }, { nd.ones(shapes.w), nd.ones(shapes.v) })
      alone:set_optimizer(neap.optim.adam { learning_rate = 0.1 })
      if kv.rank == 0 then
        if FIRST > 1 then
          kv:load_optimizer_states(FILE)
          assert(kv:optimizer().name == 'adam')
        else
          kv:set_optimizer(neap.optim.adam { learning_rate = 0.1 })
        end
      end
      kv:barrier()
      local out = {}
      for step = 1, LAST do
        for key in pairs(shapes) do
          local g = gradient(key, step)
          alone:push(key, { g, g })
          if step >= FIRST then kv:push(key, g) end
        end
      end
      for key, shape in pairs(shapes) do
        local near = nd.zeros(shape)
        out[key] = nd.zeros(shape)
        kv:pull(key, out[key])
        alone:pull(key, near)
        same(near, out[key], key)
      end
      kv:barrier()
      if kv.rank == 0 then
        kv:save_optimizer_states(FILE, true)
        nd.save(FILE .. '.weights.npz', out)
      end
      kv:close()]]
    local file = folder .. '/states'
    local bound = { NEAP_BIGARRAY_BOUND = '6' }
    job(2, 2, text:format(file, 1, 5), bound)
    job(2, 3, text:format(file, 6, 9), bound)
    job(2, 1, text:format(file, 10, 12), bound)
  end)
end)

describe('dist_async', function()
  it('applies every push once', function()
    job(3, 2, [[
      local kv = neap.kv.create 'dist_async'
      local shapes = { w = { 2, 3 }, large = { 1100, 1000 } }
      for key, shape in pairs(shapes) do kv:init(key, nd.ones(shape)) end
      raises(function() kv:push('w', nd.ones(shapes.w)) end, 'optimizer')
      kv:barrier()
      if kv.rank == 0 then kv:set_optimizer(neap.optim.test { rescale_grad = 2 }) end
      kv:barrier()
      for i = 1, 4 do
        for key, shape in pairs(shapes) do kv:push(key, nd.full(shape, kv.rank + 1)) end
      end
      kv:barrier()
      for key, shape in pairs(shapes) do
        local out = nd.zeros(shape)
        kv:pull(key, out)
        all(1 + 2 * 4 * sum_of_ranks(kv), out, key)
      end
      kv:close()]])
  end)
end)

describe('a lost process', function()
  local DIE = [[
    local ffi = require 'ffi'
    ffi.cdef 'int getpid(void); int kill(int pid, int signal);'
    local function die() ffi.C.kill(ffi.C.getpid(), 9) end
  ]]

  it('is named to those who wait for it', function()
    local status, output = launch(3, 1, DIE .. [[
      local kv = neap.kv.create 'dist_sync'
      kv:init('w', nd.zeros(4))
      kv:barrier()
      if kv.rank == 1 then die() end
      kv:push('w', nd.ones(4))
      raises(function()
        local out = nd.zeros(4)
        kv:pull('w', out)
        out:wait_to_read()
      end, 'worker 1')
      io.write('told\n')
      kv:close()]], { NEAP_TIMEOUT = '3' })
    assert.equal(137, status, output)
    assert.equal(2, select(2, output:gsub('told', '')), output)
    assert.truthy(output:find('worker 1 ended with status 137 (SIGKILL)', 1, true), output)
  end)

  it('is gone without where the job says so', function()
    local status, output = launch(3, 1, DIE .. [[
      local kv = neap.kv.create 'dist_sync'
      kv:init('w', nd.zeros(4))
      kv:barrier()
      if kv.rank == 1 then die() end
      local out = nd.zeros(4)
      kv:push('w', nd.full(4, kv.rank + 1))
      kv:pull('w', out)
      all(4, out)
      io.write('gone on\n')
      kv:close()]], { NEAP_TIMEOUT = '3', NEAP_ON_WORKER_LOST = 'continue' })
    assert.equal(137, status, output)
    assert.equal(2, select(2, output:gsub('gone on', '')), output)
  end)
end)

describe('a job without neap launch', function()
  local SUM = [[
    local kv = neap.kv.create('dist_sync', OPTIONS)
    kv:init('w', nd.ones { 2, 3 })
    if kv.rank == 0 then kv:set_optimizer(neap.optim.test { rescale_grad = 2 }) end
    kv:barrier()
    local out = nd.zeros { 2, 3 }
    kv:push('w', nd.full({ 2, 3 }, kv.rank + 1))
    kv:pull('w', out)
    all(1 + 2 * sum_of_ranks(kv), out)
    print(('worker %d of %d, %d servers: right'):format(kv.rank, kv.num_workers, kv.num_servers))
    ]]

  -- Starts processes with an environment each; all must end with status 0. Gives their outputs, in
  -- one.
  local function all_of(script, environments)
    local started, outputs = {}, {}
    for i, more in ipairs(environments) do
      started[i] = processes.start({ [0] = 'luajit', script }, environment(more))
    end
    for i, process in ipairs(started) do
      local status, output = process:wait()
      assert(status == 0, output)
      outputs[i] = output
    end
    return table.concat(outputs)
  end

  local function right(output, workers, servers)
    for rank = 0, workers - 1 do
      assert.truthy(output:find(('worker %d of %d, %d servers: right'):format(rank, workers,
        servers), 1, true), output)
    end
  end

  local function sum(ending)
    return write_script('local OPTIONS\n' .. SUM .. (ending or 'kv:close()'))
  end

  local port = 21000 + (require 'posix.unistd'.getpid() * 7) % 8000
  local function new_port()
    port = port + 1
    return tostring(port)
  end

  local function torchrun(n, more)
    local environments, master = {}, new_port()
    for rank = n - 1, 0, -1 do
      local e = { RANK = tostring(rank), WORLD_SIZE = tostring(n), LOCAL_RANK = tostring(rank),
        MASTER_ADDR = '127.0.0.1', MASTER_PORT = master }
      for name, value in pairs(more or {}) do e[name] = value end
      environments[#environments + 1] = e
    end
    return environments
  end

  it('starts by the variables of torchrun, with the server inside rank 0', function()
    right(all_of(sum(), torchrun(3)), 3, 1)
  end)

  it('ends in order where nobody closes', function()
    right(all_of(sum(''), torchrun(2)), 2, 1)
  end)

  it('has servers in the first ranks where NEAP_NUM_SERVERS says so', function()
    right(all_of(sum(), torchrun(4, { NEAP_NUM_SERVERS = '2' })), 2, 2)
  end)

  it('starts by the variables of DMLC, one program for all roles', function()
    local base = { DMLC_NUM_WORKER = '2', DMLC_NUM_SERVER = '2', DMLC_PS_ROOT_URI = '127.0.0.1',
      DMLC_PS_ROOT_PORT = new_port() }
    local environments = {}
    for i, role in ipairs { 'worker', 'server', 'worker', 'server', 'scheduler' } do
      environments[i] = { DMLC_ROLE = role }
      for name, value in pairs(base) do environments[i][name] = value end
    end
    right(all_of(sum(), environments), 2, 2)
  end)

  it('starts by mpirun', function()
    if os.execute 'command -v mpirun >/dev/null' ~= 0 then
      pending('mpirun is not installed (openmpi-bin)')
      return
    end
    local status, output = processes.run({ [0] = 'mpirun', '--allow-run-as-root', '--oversubscribe',
      '-n', '3', 'luajit', sum() }, environment())
    assert(status == 0, output)
    right(output, 3, 1)
  end)

  it('starts by srun', function()
    local slurm = dofile(here .. 'slurm.lua')
    local missing = slurm.missing()
    if missing then
      pending(missing)
      return
    end
    local cluster = slurm.start(new_port(), new_port())
    local status, output = processes.run({ [0] = 'srun', '-n', '3', 'luajit', sum() },
      environment(cluster.environment))
    cluster.stop()
    assert(status == 0, output)
    right(output, 3, 1)
  end)

  it('is told everything in create, with servers and controllers of one\'s own', function()
    local told = 'num_workers = 2, num_servers = 2, timeout = 60, '
    local home = processes.start({ [0] = processes.neap, 'run', processes.write(
      processes.folder() .. '/home.lua', ([[
        local neap = require 'neap'
        local scheduler = neap.scheduler.start { root_uri = 'tcp://127.0.0.1:0', %s }
        local servers = {}
        for i = 1, 2 do
          servers[i] = neap.server.start { root_uri = scheduler.uri, %s
            controller = function(head, body)
              if body == 'fail' then error('cannot', 0) end
              return ('%%g %%s'):format(head, body:upper())
            end }
        end
        print('uri=' .. scheduler.uri .. ';')
        io.stdout:flush()
        assert(not scheduler:wait(0))
        repeat
          servers[2]:poll()
        until servers[1]:wait(0.01)
        for _, server in ipairs(servers) do
          assert(server:wait() and server.rank >= 0)
          server:close()
          server:close()
        end
        assert(scheduler:wait())
        scheduler:close()]]):format(told, told)) }, environment())
    home:says ';'
    local script = write_script(([[local OPTIONS = { root_uri = '%s', %s }
    ]]):format(home:output():match('uri=(.-);'), told) .. SUM .. [[
      kv:barrier()
      if kv.rank == 1 then
        local answers = kv:send_command_to_servers(7.5, 'hello')
        assert(#answers == 2 and answers[1] == '7.5 HELLO' and answers[2] == '7.5 HELLO')
        assert(kv:send_command_to_servers(0, 'fail')[1]:find 'cannot')
      end
      kv:close()]])
    right(all_of(script, { {}, {} }), 2, 2)
    local status, output = home:wait()
    assert(status == 0, output)
  end)

  it('is refused where it makes no sense', function()
    local function refused(options, more, ...)
      local script = write_script(([[raises(function() neap.kv.create('dist_sync', %s) end, %s)]])
        :format(options, ("'%s'"):format(table.concat({ ... }, "', '"))))
      local status, output = processes.run({ [0] = 'luajit', script }, environment(more))
      assert(status == 0, output)
    end
    refused('nil', {}, 'neap launch -n 2 -s 1 luajit train.lua')
    refused("{ root_uri = 'tcp://127.0.0.1:1' }", {}, 'num_workers')
    refused('{ root = 1 }', {}, 'unknown option', 'root_uri')
    refused('{ rank = 1.5 }', {}, 'rank')
    refused("{ on_worker_lost = 'retry' }", {}, 'fail', 'continue')
    refused('{ timeout = 0 }', {}, 'timeout')
    refused('nil', { NEAP_ROLE = 'worker' }, 'NEAP_ROOT_URI')
    refused('nil', { NEAP_TIMEOUT = 'soon' }, 'NEAP_TIMEOUT')
    -- Nobody answers there.
    refused("{ root_uri = 'tcp://127.0.0.1:1', num_workers = 1, num_servers = 1, timeout = .5 }",
      {}, 'scheduler')
  end)
end)
