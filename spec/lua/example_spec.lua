-- SPDX-License-Identifier: MIT
-- examples/fashion_mnist.lua, fashion_optimizers.lua and fashion_jobs.lua as their users meet them:
-- real processes, on small sets of made-up pictures except where there is to learn.

local here = debug.getinfo(1, 'S').source:match('^@(.*)spec/lua/') or './'
package.path = here .. 'examples/?.lua;' .. package.path

local bit = require 'bit'
local ffi = require 'ffi'
local fcntl = require 'posix.fcntl'
local signal = require 'posix.signal'
local time = require 'posix.time'
local unistd = require 'posix.unistd'
local wait = require 'posix.sys.wait'

local chart = require 'fashion.chart'
local idx = require 'fashion.idx'
local mlp = require 'fashion.mlp'
local neap = require 'neap'
local nd = neap.nd

local PROGRAM = here .. 'examples/fashion_mnist.lua'
local TABLE = here .. 'examples/fashion_optimizers.lua'
local JOBS = here .. 'examples/fashion_jobs.lua'

-- ---- Files ---------------------------------------------------------------------------------

local function write(path, bytes)
  local file = assert(io.open(path, 'wb'))
  assert(file:write(bytes))
  file:close()
end

local function read(path)
  local file = assert(io.open(path, 'rb'))
  local bytes = file:read('*a')
  file:close()
  return bytes
end

local function exists(path)
  local file = io.open(path)
  return file ~= nil and file:close()
end

local folders = {}
local function new_folder()
  local path = os.tmpname()
  os.remove(path)
  assert(os.execute('mkdir ' .. path) == 0)
  folders[#folders + 1] = path
  return path
end

local function big_endian(n)
  local bytes = {}
  for i = 4, 1, -1 do
    bytes[i] = string.char(n % 256)
    n = math.floor(n / 256)
  end
  return table.concat(bytes)
end

-- An idx file, as its description has it.
local function idx_bytes(shape, elements)
  local parts = { '\0\0\8', string.char(#shape) }
  for _, n in ipairs(shape) do parts[#parts + 1] = big_endian(n) end
  return table.concat(parts) .. elements
end

local function gzip(path) assert(os.execute(('gzip -nf %s'):format(path)) == 0) end

-- Pictures of 28x28 whose class is the row that is bright, in noise.
local function write_set(folder, prefix, n, seed)
  local images, labels = {}, {}
  local state = seed
  for i = 1, n do
    local label = i % 10
    labels[i] = string.char(label)
    local pixels = {}
    for p = 0, 783 do
      state = (state * 16807) % 2147483647
      local bright = math.floor(p / 28) == 2 * label + 3
      pixels[p + 1] = string.char(state % 128 + (bright and 90 or 0))
    end
    images[i] = table.concat(pixels)
  end
  local base = folder .. '/' .. prefix
  write(base .. '-images-idx3-ubyte', idx_bytes({ n, 28, 28 }, table.concat(images)))
  write(base .. '-labels-idx1-ubyte', idx_bytes({ n }, table.concat(labels)))
  gzip(base .. '-images-idx3-ubyte')
  gzip(base .. '-labels-idx1-ubyte')
end

local small -- a folder with the four files
setup(function()
  small = new_folder()
  write_set(small, 'train', 600, 1)
  write_set(small, 't10k', 100, 2)
end)
teardown(function()
  for _, folder in ipairs(folders) do os.execute('rm -r ' .. folder) end
end)

-- ---- Processes -----------------------------------------------------------------------------

-- Runs the program to its end: exit status and all output.
local function run(options, environment, program)
  local pipe = io.popen(('%s luajit %s %s 2>&1; echo "status $?"'):format(environment or '',
    program or PROGRAM, options))
  local output, status = pipe:read('*a'):match('^(.*)status (%d+)\n$')
  pipe:close()
  return tonumber(status), output
end

local function trained(options, environment)
  local out = new_folder()
  local status, output = run(('--data %s --out %s %s'):format(small, out, options), environment)
  assert.equal(0, status, output)
  return read(out .. '/weights.safetensors'), output, out
end

local function sleep(seconds)
  time.nanosleep { tv_sec = math.floor(seconds), tv_nsec = seconds % 1 * 1e9 }
end

-- Starts the program, sends it a signal once `text` is in its output: exit status and output.
local function interrupted(arguments, text, number, program)
  local log = new_folder() .. '/log'
  local child = assert(unistd.fork())
  if child == 0 then -- whatever happens, it must not go on as a second busted
    pcall(function()
      signal.signal(signal.SIGINT, signal.SIG_DFL)
      local fd = fcntl.open(log, bit.bor(fcntl.O_CREAT, fcntl.O_WRONLY), tonumber('600', 8))
      unistd.dup2(fd, 1)
      unistd.dup2(fd, 2)
      table.insert(arguments, 1, program or PROGRAM)
      unistd.execp('luajit', arguments)
    end)
    unistd._exit(99)
  end
  for _ = 1, 3000 do
    if exists(log) and read(log):find(text, 1, true) then break end
    sleep(0.01)
  end
  signal.kill(child, number)
  local _, how, status = wait.wait(child)
  return how, status, read(log)
end

-- ---- Parts ---------------------------------------------------------------------------------

describe('fashion.idx', function()
  it('reads what is gzipped and what is not', function()
    local folder = new_folder()
    local path = folder .. '/x'
    write(path, idx_bytes({ 2, 3 }, '\1\2\3\4\5\255'))
    local bytes, shape = idx.read(path, 2)
    assert.same({ 2, 3 }, shape)
    assert.equal('\1\2\3\4\5\255', ffi.string(bytes, 6))
    gzip(path)
    bytes, shape = idx.read(path .. '.gz', 2)
    assert.same({ 2, 3 }, shape)
    assert.equal('\1\2\3\4\5\255', ffi.string(bytes, 6))
  end)

  it('asks no memory for sizes that only a header claims', function()
    local path = new_folder() .. '/x'
    write(path, idx_bytes({ 0xffffffff, 0xffffffff, 0xffffffff }, ''))
    local bytes, why = idx.read(path, 3)
    assert.is_nil(bytes)
    assert.equal('its header holds impossible sizes', why)
  end)
end)

describe('fashion.mlp', function()
  it('has the gradients that differences give', function()
    neap.seed(5)
    local parameters = mlp.initial { 5, 4, 3, 2 }
    for _, p in ipairs(parameters) do
      p.weight, p.bias = p.weight:astype('float64'), p.bias:astype('float64') + 0.1
    end
    local x = nd.random.normal(0, 1, { 7, 5 }, { dtype = 'float64' })
    local labels = nd.array({ 0, 1, 1, 0, 1, 0, 0 }, { dtype = 'int64' })
    local targets = nd.take(nd.array({ { 1, 0 }, { 0, 1 } }, { dtype = 'float64' }), labels)
    local gradients, loss = mlp.gradients(parameters, x, targets, labels)
    assert.near(loss:item(), (mlp.test(parameters, x, targets, labels)):item(), 1e-12)
    local STEP = 1e-6
    for layer, p in ipairs(parameters) do
      for part, value in pairs(p) do
        local flat, gradient = value:reshape { -1 }, gradients[layer][part]:reshape { -1 }
        for i = 0, flat.size - 1 do
          local before = flat:at(i):item()
          flat:at(i):set(before + STEP)
          local above = (mlp.test(parameters, x, targets, labels)):item()
          flat:at(i):set(before - STEP)
          local below = (mlp.test(parameters, x, targets, labels)):item()
          flat:at(i):set(before)
          assert.near((above - below) / (2 * STEP), gradient:at(i):item(), 1e-6)
        end
      end
    end
  end)
end)

describe('fashion.chart', function()
  local function well_formed(svg)
    local path = new_folder() .. '/x.svg'
    write(path, svg)
    local ok = os.execute(("python3 -c 'import sys, xml.dom.minidom as m; m.parse(sys.argv[1])' %s")
      :format(path))
    return ok == 0
  end

  local function picture(points)
    return chart.svg { title = 'a < b & "c"', note = '', panels = { {
      title = 'loss', x_label = 'epoch', x_max = 2, x_whole = true,
      series = { { name = 'training', points = points }, { name = 'test', points = {} } },
    } } }
  end

  it('is well-formed XML, whatever the texts and numbers', function()
    for _, points in ipairs {
      {}, { { 1, 0.5 } }, { { 0, 0 / 0 }, { 1, math.huge } }, { { 1, 1e-9 }, { 2, 2e9 } },
      { { 0, 3 }, { 2, 3 } },
    } do
      local svg = picture(points)
      assert.truthy(well_formed(svg))
      assert.falsy(svg:find('[^%a]nan') or svg:find('inf'))
    end
  end)

  it('puts the largest value above the smallest', function()
    local svg = picture { { 0, 10 }, { 1, 20 }, { 2, 10 } }
    local a, b, c = svg:match('points="[%d.]+,([%d.]+) [%d.]+,([%d.]+) [%d.]+,([%d.]+)"')
    assert.truthy(tonumber(b) < tonumber(a))
    assert.equal(a, c)
  end)
end)

-- ---- The program ---------------------------------------------------------------------------

describe('examples/fashion_mnist.lua', function()
  local SHORT = '--epochs 2 --batch-size 50 '

  it('gives the same bits for one seed, on any number of threads, and without', function()
    local weights, output = trained(SHORT)
    assert.truthy(output:find('epoch 2/2  loss', 1, true), output)
    assert.truthy(weights == trained(SHORT))
    assert.truthy(weights == trained(SHORT, 'NEAP_NUM_THREADS=1'))
    assert.truthy(weights == trained(SHORT, 'NEAP_NUM_THREADS=4'))
    assert.truthy(weights == trained(SHORT, 'NEAP_ENGINE=naive'))
    assert.falsy(weights == trained(SHORT .. '--seed 2'))
  end)

  it('gives the same bits through every store that adds up in order', function()
    local options = SHORT .. '--devices 3 --kv '
    local weights = trained(options .. 'local')
    for _, kind in ipairs { 'local_update_cpu', 'local_allreduce_cpu', 'device',
      'local_allreduce_device' } do
      assert.truthy(weights == trained(options .. kind), kind)
    end
  end)

  it('gives the same bits in two processes of one device as in one of two', function()
    local neap_program = os.getenv('NEAP_PROGRAM') or here .. 'build/release/neap'
    local function launched(options)
      local out = new_folder()
      local pipe = io.popen(('NEAP_TIMEOUT=60 NEAP_NUM_THREADS=1 %s launch -n 2 -s 2 luajit %s ' ..
        '--data %s --out %s %s %s 2>&1; echo "status $?"'):format(neap_program, PROGRAM, small, out,
        SHORT, options))
      local output, status = pipe:read('*a'):match('^(.*)status (%d+)\n$')
      pipe:close()
      assert.equal('0', status, output)
      local _, times = output:gsub('epoch 2/2  loss', '')
      assert.equal(1, times, output) -- rank 0 speaks for both
      return read(out .. '/weights.safetensors')
    end
    assert.truthy(trained(SHORT .. '--devices 2') == launched('--devices 1 --kv dist_sync'))
    assert.truthy(trained(SHORT .. '--devices 2 --kv device --compress 2bit --threshold 0.01') ==
      launched('--devices 1 --kv dist_sync --compress 2bit --threshold 0.01'))
    launched('--devices 1 --kv dist_async --compress 2bit')
  end)

  it('trains the same network on one device and on four, but for rounding', function()
    local function load(devices)
      local _, _, out = trained(SHORT .. '--devices ' .. devices)
      return nd.load(out .. '/weights.safetensors')
    end
    local one, four = load(1), load(4)
    for name, weights in pairs(one) do
      assert.truthy(nd.max(nd.abs(weights - four[name])):item() < 1e-3, name)
    end
  end)

  it('writes weights by layer, and curves', function()
    local _, output, out = trained(SHORT)
    local weights = nd.load(out .. '/weights.safetensors')
    assert.same({ 784, 256 }, weights['layer1.weight'].shape)
    assert.same({ 10 }, weights['layer3.bias'].shape)
    local curves = read(out .. '/curves.svg')
    assert.truthy(curves:find('test accuracy ' .. output:match('test accuracy ([%d.]+) after'), 1,
      true))
    assert.falsy(exists(out .. '/checkpoint'))
  end)

  it('prints plain lines where there is no terminal, and a bar where there is', function()
    local _, plain = trained(SHORT)
    assert.falsy(plain:find('[\r\27]'))
    local pipe = io.popen(("script -qec 'luajit %s --data %s --out %s %s' /dev/null")
      :format(PROGRAM, small, new_folder(), SHORT:gsub('epochs 2', 'epochs 30')))
    local terminal = pipe:read('*a')
    pipe:close()
    assert.truthy(terminal:find('\repoch +%d+/30 .*images/s\27%[K'), terminal)
  end)

  it('says what is wrong with an option, in one line and without a traceback', function()
    for options, text in pairs {
      ['--devices 0'] = "--devices: '0' is no whole number",
      ['--devices x'] = "--devices: 'x' is no whole number",
      ['--epochs 1.5'] = "--epochs: '1.5' is no whole number",
      ['--batch-size 0'] = "--batch-size: '0' is no whole number",
      ['--batch-size 1'] = '--batch-size 1 is too small for --devices 2',
      ['--batch-size 601'] = '--batch-size 601: there are 600 images',
      ['--lr 0'] = "--lr: '0' is no number above 0",
      ['--lr nan'] = "--lr: 'nan' is no number above 0",
      ['--seed x'] = "--seed: 'x' is no whole number",
      ['--kv lokal'] = "unknown store type 'lokal'",
      ['--kv nccl'] = 'nccl',
      ['--kv dist_sync'] = 'neap launch -n 2 -s 1 luajit train.lua',
      ['--compress 3bit'] = "'3bit' is none of none, 2bit, 1bit",
      ['--compress 2bit'] = 'local',
      ['--optimizer nope'] = 'nope',
      ['--out /proc/self/x'] = '/proc/self/x',
      ['--out ' .. small .. '/train-labels-idx1-ubyte.gz'] = 'is a file where a folder',
      ['--resume ' .. small .. '/nothing'] = small .. '/nothing',
      ['--resume ' .. PROGRAM] = 'is no checkpoint',
      ['--what'] = "unknown option '--what'",
    } do
      local out = options:find('--out', 1, true) and '' or ' --out ' .. new_folder()
      local status, output = run(('--data %s%s %s'):format(small, out, options))
      assert.equal(1, status, options)
      assert.truthy(output:find(text, 1, true), output)
      assert.falsy(output:find('traceback', 1, true), output)
    end
  end)

  it('shows help with examples', function()
    local status, output = run('--help')
    assert.equal(0, status)
    for _, text in ipairs { '--devices', '--kv', '--optimizer', '--lr', '--epochs', '--resume',
      'Examples:' } do
      assert.truthy(output:find(text, 1, true), text)
    end
  end)

  it('learns Fashion-MNIST', function()
    if not exists('/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz') then
      pending('dataset-fashion-mnist is not installed')
      return
    end
    local status, output = run('--epochs 2 --out ' .. new_folder())
    assert.equal(0, status, output)
    local accuracy = tonumber(output:match('test accuracy ([%d.]+) after 2 epochs'))
    assert.truthy(accuracy > 0.85, output) -- a linear model: .84; this one, after ten: .89
  end)
end)

describe('data that is missing or damaged', function()
  -- A copy of the small set with one file changed; what the program says of it.
  local function with(name, change)
    local folder = new_folder()
    assert(os.execute(('cp %s/*.gz %s'):format(small, folder)) == 0)
    local path = folder .. '/' .. name
    change(path)
    local status, output = run(('--data %s --out %s --epochs 1'):format(folder, folder))
    assert.equal(1, status, output)
    assert.falsy(output:find('traceback', 1, true), output)
    return output, path
  end

  local function names_it(name, change, what)
    local output, path = with(name, change)
    assert.truthy(output:find(path, 1, true), output)
    assert.truthy(output:find('apt install.- dataset%-fashion%-mnist'), output)
    assert.truthy(output:find(what, 1, true), output)
  end

  local IMAGES, LABELS = 'train-images-idx3-ubyte.gz', 't10k-labels-idx1-ubyte.gz'

  -- Packs other content under the same name.
  local function holding(bytes)
    return function(path)
      local plain = path:gsub('%.gz$', '')
      write(plain, bytes)
      gzip(plain)
    end
  end

  it('is named, with what to install', function()
    names_it(IMAGES, os.remove, 'No such file')
    names_it(LABELS, os.remove, 'No such file')
    names_it(IMAGES, function(path) write(path, read(path):sub(1, 20000)) end, 'ends too early')
    names_it(IMAGES, function(path) write(path, read(path):sub(1, -5)) end, 'damaged')
    names_it(IMAGES, function(path) write(path, '') end, 'ends too early')
    names_it(IMAGES, function(path)
      local bytes = read(path)
      write(path, bytes:sub(1, 30000) .. string.char((bytes:byte(30001) + 1) % 256) ..
        bytes:sub(30002))
    end, 'damaged')
    names_it(IMAGES, function(path) -- the check sum at the end
      local bytes = read(path)
      write(path, bytes:sub(1, -9) .. string.char((bytes:byte(-8) + 1) % 256) .. bytes:sub(-7))
    end, 'incorrect data check')
    names_it(IMAGES, holding(idx_bytes({ 600, 28, 28 }, '')), 'ends too early')
    names_it(LABELS, holding(idx_bytes({ 100 }, ('\1'):rep(101))), 'more than its header')
    names_it(LABELS, holding(idx_bytes({ 10, 10 }, ('\1'):rep(100))), 'no idx file')
    names_it(LABELS, function(path) write(path, '<html>not found</html>') end, 'no idx file')
  end)

  it('is noticed where files do not go together', function()
    assert.truthy(with(LABELS, holding(idx_bytes({ 99 }, ('\1'):rep(99))))
      :find('t10k has 100 images, but there are 99 labels', 1, true))
    assert.truthy(with(LABELS, holding(idx_bytes({ 100 }, ('\10'):rep(100))))
      :find('t10k has a label 10', 1, true))
  end)
end)

describe('Ctrl-C', function()
  local RUN = { '--epochs', '60', '--batch-size', '50', '--seed', '3' }

  local function arguments(out, ...)
    local list = { '--data', small, '--out', out, ... }
    for _, word in ipairs(RUN) do list[#list + 1] = word end
    return list
  end

  -- The command that the program printed, less `luajit` and the program.
  local function resume_words(output)
    local words = {}
    for word in output:match('to go on:\n  luajit (.-)\n'):gmatch('%S+') do
      words[#words + 1] = word
    end
    assert.equal(PROGRAM, table.remove(words, 1))
    return words
  end

  it('saves; the command it prints goes on to the very same weights and curves', function()
    local whole, _, whole_out = trained(table.concat(RUN, ' '))
    local out = new_folder()
    local how, status, output = interrupted(arguments(out), 'epoch  2/60', signal.SIGINT)
    assert.equal('exited', how)
    assert.equal(130, status, output)
    assert.falsy(exists(out .. '/weights.safetensors'))
    local first = tonumber(read(out .. '/checkpoint'):match('at updates (%d+)'))

    how, status, output = interrupted(resume_words(output), 'epoch  8/60', signal.SIGTERM)
    assert.equal('exited', how)
    assert.equal(128 + 15, status, output)
    local second = tonumber(read(out .. '/checkpoint'):match('at updates (%d+)'))
    assert.truthy(second > first)
    assert.falsy(exists(('%s/checkpoint-%d.safetensors'):format(out, first)))

    status, output = run(table.concat(resume_words(output), ' '))
    assert.equal(0, status, output)
    assert.truthy(whole == read(out .. '/weights.safetensors'))
    assert.equal(read(whole_out .. '/curves.svg'), read(out .. '/curves.svg'))
  end)

  it('leaves what a resumed run refuses to mix, or to read when damaged', function()
    local out = new_folder()
    local _, status, output = interrupted(arguments(out), 'epoch  1/60', signal.SIGINT)
    assert.equal(130, status, output)
    local path = out .. '/checkpoint'
    local text = read(path)
    local base = out .. '/checkpoint-' .. text:match('at updates (%d+)')

    local function refused(options, what)
      local code, says = run(('--resume %s %s'):format(path, options))
      assert.equal(1, code, says)
      assert.truthy(says:find(what, 1, true), says)
      assert.falsy(says:find('traceback', 1, true), says)
    end
    refused('--seed 4', '--seed is 4, and the run to resume had 3')
    refused('--optimizer sgd', '--optimizer is sgd')
    refused('--batch-size 10', '--batch-size is 10')
    write(path, text:gsub('at batch %d+', 'at batch 31'))
    refused('', 'is damaged')
    write(path, text:gsub('at batch %d+\n', ''))
    refused('', 'is damaged')
    write(path, text .. 'nonsense\n')
    refused('', 'is damaged: nonsense')
    write(path, text)
    local weights = read(base .. '.safetensors')
    write(base .. '.safetensors', weights:sub(1, -100))
    refused('', base .. '.safetensors')
    os.remove(base .. '.safetensors')
    refused('', base .. '.safetensors')
    write(base .. '.safetensors', weights)
    os.remove(base .. '.states')
    refused('', base .. '.states')
  end)
end)

describe('examples/fashion_optimizers.lua', function()
  local function rows_of(output)
    local rows = {}
    for name, rate, accuracy in output:gmatch('| ([%w_]+) | ([%w.-]+) | ([%d.]+) |') do
      rows[#rows + 1] = { name, tonumber(rate), tonumber(accuracy) }
    end
    return rows
  end

  it('prints a table of what each optimizer reaches, the same at every run', function()
    local options = ('--data %s --epochs 4 --batch-size 20 sgd adam:0.002'):format(small)
    local status, output = run(options, nil, TABLE)
    assert.equal(0, status, output)
    assert.truthy(output:find('| optimizer | learning rate | test accuracy after 4 epochs |', 1,
      true), output)
    local rows, rates = rows_of(output), {}
    assert.equal(2, #rows)
    assert.truthy(rows[1][3] >= rows[2][3])
    for _, row in ipairs(rows) do
      rates[row[1]] = row[2]
      assert.truthy(row[3] > 0.5, output) -- by chance: 0.1
    end
    assert.same({ sgd = 0.2, adam = 0.002 }, rates)
    local _, again = run(options, nil, TABLE)
    assert.same(rows, rows_of(again))
  end)

  it('prints what it has when it is interrupted', function()
    local arguments = { '--data', small, '--epochs', '20' }
    for _ = 1, 100 do arguments[#arguments + 1] = 'adam' end
    local how, status, output = interrupted(arguments, 'test accuracy', signal.SIGINT, TABLE)
    assert.equal('exited', how)
    assert.equal(130, status, output)
    local done = tonumber(output:match('interrupted: (%d+) of 100 optimizers are done'))
    assert.truthy(done >= 1, output)
    assert.equal(done, #rows_of(output))
  end)

  it('says what is wrong, in one line', function()
    for options, text in pairs {
      ['addam'] = 'there is no optimizer "addam"; there are adabelief',
      ['adam:fast'] = "adam: 'fast' is no number above 0",
      ['group_adagrad'] = 'group_adagrad updates keys of two dimensions only',
      ['--batch-size 601 adam'] = '--batch-size 601: there are 600 images',
      ['--epochs x adam'] = "'x' is no whole number",
    } do
      local status, output = run(('--data %s %s'):format(small, options), nil, TABLE)
      assert.equal(1, status, output)
      assert.truthy(output:find(text, 1, true), output)
      assert.falsy(output:find('traceback', 1, true), output)
    end
  end)

  it('has a rate for every optimizer but two', function()
    local source, rates = read(TABLE):match('local RATES = (%b{})'), {}
    for name in source:gmatch("{ '([%w_]+)', ") do rates[name] = true end
    local pipe = io.popen('ls ' .. here .. 'lua/optim/*.lua')
    for path in pipe:lines() do
      local name = path:match('([%w_]+)%.lua$')
      assert.equal(name ~= 'test' and name ~= 'group_adagrad', rates[name] or false, name)
    end
    pipe:close()
  end)
end)

describe('examples/fashion_jobs.lua', function()
  local BARE = 'env -u LUA_PATH -u NEAP_LIBRARY NEAP_NUM_THREADS=1' -- it finds what it needs

  it('prints a table of what jobs reach, against one process', function()
    local status, output = run(('--data %s --out %s --epochs 4 --batch-size 20'):format(small,
      new_folder()), BARE, JOBS)
    assert.equal(0, status, output)
    assert.truthy(output:find(
      '| store | processes | gradients | test accuracy after 4 epochs | against local |', 1, true),
      output)
    local rows = {}
    for row in output:gmatch('\n| (%l[^\n]+) |') do rows[#rows + 1] = row end
    table.remove(rows, 1)
    assert.equal(4, #rows, output)
    local function reached(row, beginning)
      assert.equal(beginning, row:sub(1, #beginning))
      local accuracy = tonumber(row:match('| ([%d.]+) |'))
      assert.truthy(accuracy > 0.5, output) -- by chance: 0.1
      return accuracy
    end
    local PLACES = ' | 2 workers, 2 servers | '
    local base = reached(rows[1], 'local | one, 2 devices | as they are | ')
    assert.equal(base, reached(rows[2], 'dist_sync' .. PLACES .. 'as they are | '))
    assert.equal('+0.0000', rows[2]:match('[+-][%d.]+$'))
    reached(rows[3], 'dist_async' .. PLACES .. 'as they are | ')
    reached(rows[4], 'dist_sync' .. PLACES .. '2bit | ')
  end)

  it('hands on what a job says when it fails', function()
    local status, output = run(('--data %s --out %s --epochs 1 dist_sink'):format(small,
      new_folder()), BARE, JOBS)
    assert.equal(1, status)
    assert.truthy(output:find("unknown store type 'dist_sink'", 1, true), output)
    assert.falsy(output:find('traceback', 1, true), output)
  end)
end)
