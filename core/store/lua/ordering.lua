-- An order about many jobs: a step of it counts in the same script as it is done.
--
-- ``o:<order>`` in each partition has how far the order came there. A step names the place after
-- which it goes on: one that is sent again, or by a node that was declared dead, finds another.
local function read_order()
  local s, attempt, node, after = arg(), arg(), arg(), arg()
  return s ~= '' and {s = s, attempt = attempt, node = node, after = after} or nil
end
-- An error if the order is no longer in the hands of its node, or has come further. nil: neither.
local function order_gone(order)
  if not order then
    return nil
  end
  -- The partition of the order tells whether it is still carried out.
  if call('EXISTS', P .. 'j:' .. order.s) == 1 and call('HGET', P .. 'run:' .. order.node, order.s) ~= order.attempt then
    return redis.error_reply('FENCED the order is no longer carried out here')
  elseif (call('HGET', P .. 'o:' .. order.s, 'upto') or '0') ~= order.after then
    return redis.error_reply('OVERTAKEN the order has come further')
  end
end
local ORDER_KEPT_MS = 5184000000
local function settle_order(order, done, skipped, upto)
  if order then
    local key = P .. 'o:' .. order.s
    call('HINCRBY', key, 'done', done)
    call('HINCRBY', key, 'skipped', skipped)
    call('HSET', key, 'upto', upto)
    call('PEXPIRE', key, ORDER_KEPT_MS)
  end
end
