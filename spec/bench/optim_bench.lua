-- SPDX-License-Identifier: MIT
--- Updates by scripts against the same rule as a loop in C (loops.c: -O3 -march=native), on one
--- thread and on two, on arrays of 64 MiB and of 1 MiB. Rounds are interleaved; a figure is the
--- median, with the least and the most; the ratio is the loop's time over the script's. What an
--- update moves, in bytes a parameter, makes a speed, which is told as a part of the machine's: of
--- that of y += x in C on the same arrays and threads. Then torch's optimizers, if Python has it.
--
--   luajit spec/bench/optim_bench.lua BUILD [RULE]    BUILD: a folder such as build/release
--   NEAP_BENCH_PYTHON=/a/venv/bin/python luajit ...   another Python than python3

local ffi = require 'ffi'

local build, only = arg[1] or 'build/release', arg[2]
local threads = tonumber(os.getenv 'NEAP_BENCH_THREADS')
if not threads then -- the engine's threads are chosen when it starts: one process for each number
  for _, n in ipairs { 1, 2 } do
    -- OpenMP's threads must not spin on while Neap's work: there is a core for each, no more.
    os.execute(('OMP_WAIT_POLICY=passive NEAP_BENCH_THREADS=%d NEAP_NUM_THREADS=%d luajit %s %s %s')
      :format(
      n, n - 1, arg[0], build, only or ''))
  end
  os.exit(0)
end

local neap = require 'neap'
local nd = neap.nd

ffi.cdef [[
void sgd_mom(float *w, const float *g, float *mom, const float *p, ptrdiff_t n, int threads);
void adam(float *w, const float *g, float *m, float *v, const float *p, ptrdiff_t n, int threads);
void amsgrad(float *w, const float *g, float *m, float *v, float *top, const float *p, ptrdiff_t n,
             int threads);
void lion(float *w, const float *g, float *m, const float *p, ptrdiff_t n, int threads);
void yogi(float *w, const float *g, float *m, float *v, const float *p, ptrdiff_t n, int threads);
void lamb(float *w, const float *g, float *m, float *v, const float *p, ptrdiff_t n, int threads);
void stream(float *y, const float *x, ptrdiff_t n, int threads);
typedef struct { long s, ns; } bench_time;
int clock_gettime(int clock, bench_time *time);
]]
local loops = ffi.load(build .. '/libbench_loops.so')

local time = ffi.new 'bench_time'
local function now()
  ffi.C.clock_gettime(1, time)
  return tonumber(time.s) + 1e-9 * tonumber(time.ns)
end

local AMSGRAD = [[
return {
  name = 'amsgrad',
  defaults = { learning_rate = 0.001, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8 },
  state = { 'mean', 'var', 'top' },
  update = function(w, g, s, p)
    g = clip(g * p.rescale_grad, p.clip_gradient) + p.wd * w
    s.mean = p.beta1 * s.mean + (1 - p.beta1) * g
    s.var = p.beta2 * s.var + (1 - p.beta2) * g * g
    s.top = max(s.var, s.top)
    local rate = p.learning_rate * sqrt(1 - p.beta2 ^ p.t) / (1 - p.beta1 ^ p.t)
    return w - rate * s.mean / (sqrt(s.top) + p.epsilon)
  end,
}]]
local LION = [[
return {
  name = 'lion',
  defaults = { learning_rate = 0.0001, beta1 = 0.9, beta2 = 0.99 },
  state = { 'mean' },
  update = function(w, g, s, p)
    g = clip(g * p.rescale_grad, p.clip_gradient)
    local c = p.beta1 * s.mean + (1 - p.beta1) * g
    s.mean = p.beta2 * s.mean + (1 - p.beta2) * g
    return w - p.learning_rate * (sign(c) + p.wd * w)
  end,
}]]
local YOGI = [[
return {
  name = 'yogi',
  defaults = { learning_rate = 0.001, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-3 },
  state = { 'mean', var = 1e-6 },
  update = function(w, g, s, p)
    g = clip(g * p.rescale_grad, p.clip_gradient) + p.wd * w
    local g2 = g * g
    s.mean = p.beta1 * s.mean + (1 - p.beta1) * g
    s.var = s.var - (1 - p.beta2) * sign(s.var - g2) * g2
    local rate = p.learning_rate * sqrt(1 - p.beta2 ^ p.t) / (1 - p.beta1 ^ p.t)
    return w - rate * s.mean / (sqrt(s.var) + p.epsilon)
  end,
}]]
local LAMB = [[
return {
  name = 'lamb2',
  defaults = { learning_rate = 0.001, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-6 },
  state = { 'mean', 'var' },
  update = function(w, g, s, p)
    g = clip(g * p.rescale_grad, p.clip_gradient)
    s.mean = p.beta1 * s.mean + (1 - p.beta1) * g
    s.var = p.beta2 * s.var + (1 - p.beta2) * g * g
    local u = s.mean / (1 - p.beta1 ^ p.t) / (sqrt(s.var / (1 - p.beta2 ^ p.t)) + p.epsilon)
      + p.wd * w
    local nw, nu = norm(w), norm(u)
    return w - p.learning_rate * where(gt(nw, 0) * gt(nu, 0), nw / nu, 1) * u
  end,
}]]

-- Name, script, settings, states, arrays read and written a step, the loop's settings.
local ADAM_P = { 1e-3, 1e-4, 0.5, 0.9, 0.999, 1e-8 }
local RULES = {
  { 'sgd_mom', 'sgd', { learning_rate = 0.1, momentum = 0.9 }, 1, 5, { 0.1, 1e-4, 0.5, 0.9 }, 0.9 },
  { 'adam', 'adam', {}, 2, 7, ADAM_P, 0.9 },
  { 'amsgrad', AMSGRAD, {}, 3, 9, ADAM_P, 0.7 },
  { 'lion', LION, {}, 1, 5, { 1e-4, 1e-4, 0.5, 0.9, 0.99 }, 0.7 },
  { 'yogi', YOGI, {}, 2, 7, { 1e-3, 1e-4, 0.5, 0.9, 0.999, 1e-3 }, 0.7 },
  { 'lamb', LAMB, {}, 2, 12, { 1e-3, 1e-4, 0.5, 0.9, 0.999, 1e-6, 0.1, 0.001 }, 0.7 },
}

local function spread(values)
  table.sort(values)
  return values[math.ceil(#values / 2)], values[1], values[#values]
end

local function random(n) return nd.random.uniform(-1, 1, n) end

local function measure(rule, n, rounds, repeats)
  local name, source, settings, states, moved, p, wanted = unpack(rule)
  settings.wd, settings.rescale_grad = 1e-4, 0.5
  local kv = neap.kv.create 'local'
  kv:set_optimizer(source:find '\n' and neap.optim.load(source, settings)
    or neap.optim.create(source, settings))
  local g = random(n)
  kv:init('w', random(n))
  local w, arrays = random(n), {}
  for i = 1, states do arrays[i] = nd.full(n, 0.1) end
  local pointers = {}
  for i = 1, states do pointers[i] = arrays[i]:data() end
  pointers[#pointers + 1] = ffi.new('float[8]', p)
  pointers[#pointers + 1] = n
  pointers[#pointers + 1] = threads
  local by_script, by_loop, by_stream, ratios = {}, {}, {}, {}
  for round = 0, rounds do
    local start = now()
    for _ = 1, repeats do kv:push('w', g) end
    neap.waitall()
    local script = (now() - start) / repeats
    local wp, gp = w:data(), g:data()
    start = now()
    for _ = 1, repeats do loops[name](wp, gp, unpack(pointers)) end
    local loop = (now() - start) / repeats
    start = now()
    for _ = 1, repeats do loops.stream(wp, gp, n, threads) end
    local streamed = (now() - start) / repeats
    if round > 0 then
      by_script[round], by_loop[round], by_stream[round] = script, loop, streamed
      ratios[round] = loop / script
    end
  end
  kv:close()
  local middle, least, most = spread(ratios)
  local taken = spread(by_script)
  local speed, most_speed = 4 * n * moved / taken, 4 * n * 3 / spread(by_stream)
  print(('  %-8s %8.3f ms  C %8.3f ms  ratio %.2f (%.2f .. %.2f), wanted %.1f; %d bytes a '
    .. 'parameter: %.1f GB/s, %.2f of the machine\'s %.1f'):format(name, taken * 1e3,
    spread(by_loop) * 1e3, middle, least, most, wanted, 4 * moved, speed / 1e9,
    speed / most_speed, most_speed / 1e9))
  io.stdout:flush()
  return taken
end

local here = arg[0]:match('^(.*)/[^/]*$') or '.'
local python = os.getenv 'NEAP_BENCH_PYTHON' or 'python3'

--- torch beside the script's times, by rule.
local function against_torch(times, n, rounds, repeats)
  if os.execute(python .. " -c 'import torch' 2>/dev/null") ~= 0 then
    print(('  torch is not installed for %s'):format(python))
    return
  end
  local pipe = io.popen(('%s %s/peers/torch_optim.py %d %d %d %d'):format(python, here, threads, n,
    rounds, repeats))
  local version = pipe:read '*l'
  for line in pipe:lines() do
    local name, seconds, way = line:match('^(%S+) (%S+) (%S+)$')
    if times[name] then
      print(('  %-8s %8.3f ms  torch %s, %s, %8.3f ms  ratio %.2f'):format(name, times[name] * 1e3,
        version, way, seconds * 1e3, seconds / times[name]))
    end
  end
  pipe:close()
end

for _, case in ipairs { { 64, 7, 1 }, { 1, 15, 40 } } do
  print(('%d thread%s, arrays of %d MiB'):format(threads, threads > 1 and 's' or '', case[1]))
  local times, n = {}, case[1] * 262144
  for _, rule in ipairs(RULES) do
    if not only or only == rule[1] then times[rule[1]] = measure(rule, n, case[2], case[3]) end
  end
  against_torch(times, n, case[2], case[3])
end
