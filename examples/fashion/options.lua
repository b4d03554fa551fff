-- SPDX-License-Identifier: MIT
--- The command line of fashion_mnist.lua: reads it, checks it, and writes one that resumes.

local argparse = require 'argparse'
local data = require 'fashion.data'

local M = {}

--- What reads a whole number from `low` to `high`: a function(text) that gives it, or nil and why
-- not.
function M.whole(low, high)
  return function(text)
    local n = tonumber(text)
    if n and n % 1 == 0 and n >= low and n <= high and text:match('^%d+$') then return n end
    return nil, ("'%s' is no whole number from %d to %d"):format(text, low, high)
  end
end

local whole = M.whole

local function rate(text)
  local n = tonumber(text)
  if n and n > 0 and n < math.huge then return n end
  return nil, ("'%s' is no number above 0"):format(text)
end

local function one_of(...)
  local words = { ... }
  return function(text)
    for _, word in ipairs(words) do
      if text == word then return text end
    end
    return nil, ("'%s' is none of %s"):format(text, table.concat(words, ', '))
  end
end

local function text_of_any(text)
  if text ~= '' and not text:find('[\n%z]') then return text end
  return nil, 'an empty value'
end

-- An option's name and argument, what reads it (a value, or nil and why not), its default, its
-- text. `fixed`: a resumed run cannot have another, since what was saved depends on it.
local OPTIONS = {
  { 'devices', 'N', whole(1, 64), 2, 'Logical devices a batch is split over.' },
  { 'kv', 'TYPE', text_of_any, 'local', 'Type of the store: local, device, dist_sync, ...' },
  { 'compress', 'TYPE', one_of('none', '2bit', '1bit'), 'none',
    'How gradients travel, in stores device* and dist*: none, 2bit, 1bit.' },
  { 'threshold', 'X', rate, nil, "Of compression. Default: the type's own." },
  { 'optimizer', 'NAME', text_of_any, 'adam', 'A script in lua/optim.', fixed = true },
  { 'lr', 'X', rate, nil, "Learning rate at the start. Default: the script's own." },
  { 'epochs', 'N', whole(1, 10000), 10, 'How often all images are seen.' },
  { 'batch-size', 'N', whole(1, 60000), 100, 'Images in a batch, on all devices together.',
    fixed = true },
  { 'seed', 'N', whole(0, 2 ^ 31 - 1), 1, 'Decides first weights and order of images.',
    fixed = true },
  { 'out', 'DIR', text_of_any, 'out', 'Folder for weights, curves and checkpoints.' },
  { 'data', 'DIR', text_of_any, data.FOLDER, 'Folder of the four files of Fashion-MNIST.' },
}

local EXAMPLES = [[
Examples:
  %s
      train for ten epochs on two devices
  %s --optimizer sgd --lr 0.1 --devices 4 --kv device
      another rule, more devices, a store that adds up on the devices
  neap launch -n 2 %s --kv dist_sync --devices 1
      two processes, each with its share of every batch; rank 0 speaks for both
  neap launch -n 4 -s 2 %s --kv dist_async --devices 1 --compress 2bit
      none waits for another, and gradients travel as two bits a number
  %s --resume out/checkpoint
      go on after Ctrl-C; options not given are those of the interrupted run

Environment:
  NEAP_NUM_THREADS=4    workers of the engine; the result is the same bits for any number
  NEAP_ENGINE=naive     every operation on the spot, for debugging]]

local function make_parser(program)
  local parser = argparse(program)
    :description('Trains a multilayer perceptron on Fashion-MNIST, data-parallel, through a '
      .. 'Neap store.')
    :epilog((EXAMPLES:gsub('%%s', (program:gsub('%%', '%%%%')))))
    :help_max_width(96)
  for _, o in ipairs(OPTIONS) do
    local text = o[5]
    if o[4] ~= nil then text = ('%s Default: %s.'):format(text, o[4]) end
    parser:option('--' .. o[1], text):argname(o[2]):target(o[1]):convert(function(value)
      local read, why = o[3](value)
      if read == nil then return nil, ('--%s: %s'):format(o[1], why) end
      return read
    end)
  end
  parser:option('--resume', 'Go on from a checkpoint that Ctrl-C left.'):argname('FILE')
    :convert(text_of_any)
  return parser
end

--- How a shell has to be told a word.
function M.quote(word)
  if word:match('^[%w_./:=+@%%-]+$') then return word end
  return "'" .. word:gsub("'", "'\\''") .. "'"
end

--- Parses the command line; argparse itself prints help and mistakes, and ends the program.
---@param arguments table `arg`
---@return table given options by name, only those that were given, and `resume`
function M.parse(arguments)
  local program = 'luajit ' .. M.quote(arguments[0])
  return make_parser(program):parse(arguments)
end

--- All options of a new run, or of one that goes on: what is given, else what the interrupted
-- run had, else the default.
---@param given table
---@param saved? table<string, string> of the checkpoint
---@return table? options, string? why
function M.complete(given, saved)
  local options = {}
  for _, o in ipairs(OPTIONS) do
    local name, read, default = o[1], o[3], o[4]
    local before
    if saved and saved[name] then
      local why
      before, why = read(saved[name])
      if before == nil then return nil, ('the checkpoint is damaged: %s: %s'):format(name, why) end
    end
    if o.fixed and before ~= nil and given[name] ~= nil and given[name] ~= before then
      return nil, ('--%s is %s, and the run to resume had %s'):format(name, given[name], before)
    end
    options[name] = given[name]
    if options[name] == nil then options[name] = before end
    if options[name] == nil then options[name] = default end
  end
  if options['batch-size'] < options.devices then
    return nil, ('--batch-size %d is too small for --devices %d'):format(options['batch-size'],
      options.devices)
  end
  return options
end

--- The command that resumes, as a shell takes it.
---@param arguments table `arg`
---@param checkpoint string
---@return string
function M.resume_command(arguments, checkpoint)
  return ('luajit %s --resume %s'):format(M.quote(arguments[0]), M.quote(checkpoint))
end

return M
