-- SPDX-License-Identifier: MIT
--- A multilayer perceptron: relu between the layers, softmax with cross-entropy at the end.
-- Forward and backward pass are written out, so that nothing stands between the formulas and
-- the arrays.
--
-- Parameters are a list with one entry for each layer: { weight = (inputs, outputs), bias =
-- (outputs) }. Gradients have the same form. Rows of x are images.

local nd = require('neap').nd

local M = {}

local FIRST_TRANSPOSED, SECOND_TRANSPOSED = { ta = true }, { tb = true }

--- First values: normal with variance 2/inputs, which keeps the size of what passes through
-- relu layers (He et al., 2015, equation 10); biases are 0.
---@param sizes integer[] inputs, the width of each hidden layer, classes
---@return table[] parameters
function M.initial(sizes)
  local parameters = {}
  for layer = 1, #sizes - 1 do
    local inputs, outputs = sizes[layer], sizes[layer + 1]
    parameters[layer] = {
      weight = nd.random.normal(0, math.sqrt(2 / inputs), { inputs, outputs }),
      bias = nd.zeros(outputs),
    }
  end
  return parameters
end

--- What each layer gives, the input first: { x, h1, h2, ..., logits }.
local function forward(parameters, x)
  local outputs = { x }
  for layer, p in ipairs(parameters) do
    local z = nd.dot(outputs[layer], p.weight):add_(p.bias)
    outputs[layer + 1] = layer < #parameters and nd.relu(z) or z
  end
  return outputs
end

--- The sum of the losses, -log of the probability given to the right class, over the rows.
local function total_loss(log_probability, targets)
  return -nd.sum(log_probability * targets)
end

--- How many rows have their largest logit at the label.
local function hits(logits, labels)
  return nd.sum(nd.equal(nd.argmax(logits, 1), labels))
end

--- Gradients of the summed loss of some images, summed over them and not averaged: the
-- optimizer's rescale_grad does that, after the store has added up the devices.
---@param parameters table[]
---@param x neap.Array (n, inputs)
---@param targets neap.Array (n, classes), 1 at the label
---@param labels neap.Array int64 (n)
---@return table[] gradients, neap.Array loss, neap.Array hits sums over the rows
function M.gradients(parameters, x, targets, labels)
  local outputs = forward(parameters, x)
  local logits = outputs[#outputs]
  local log_probability = nd.log_softmax(logits)
  local delta = nd.exp(log_probability):sub_(targets) -- d loss / d logits
  local gradients = {}
  for layer = #parameters, 1, -1 do
    local input = outputs[layer]
    gradients[layer] = {
      weight = nd.dot(input, delta, FIRST_TRANSPOSED),
      bias = nd.sum(delta, 0),
    }
    if layer > 1 then -- through the weights, then through relu
      delta = nd.dot(delta, parameters[layer].weight, SECOND_TRANSPOSED)
      delta:mul_(nd.greater(input, 0))
    end
  end
  return gradients, total_loss(log_probability, targets), hits(logits, labels)
end

--- Loss and hits alone.
---@return neap.Array loss, neap.Array hits sums over the rows
function M.test(parameters, x, targets, labels)
  local outputs = forward(parameters, x)
  local logits = outputs[#outputs]
  return total_loss(nd.log_softmax(logits), targets), hits(logits, labels)
end

return M
