"""A queue of ready tasks that workers in many processes share, and the states of those workers.

Claims go through the queue's mailbox. Without it, workers would claim from a ring of slots in shared memory, under a
robust lock that processes share. Both were measured between two processes, side by side and in several runs, in
which the ring's figure went from 270,000 to 570,000 tasks/s (`tests/benchmarks/queues.py`):

| claims here | tasks/s | of the ring's, one by one |
|---|---|---|
| one by one | 11,000 to 12,000 | 0.02 to 0.04 |
| 16 at once | 100,000 to 160,000 | 0.24 to 0.38 |
| 64 at once | 360,000 to 440,000 | 0.67 to 1.4 |

So the ring is faster, and it could take several at once too: a claim here costs a round trip of 0.09 ms, shared out by
`at_once`. But the ring can't be made safe. The lock of one that is killed goes to the next within 0.2 ms, in whatever
state the ring is: with a slot half written, or a task that is in no slot any more, as nobody owns a slot whose end
would be heard. After a death at each of three places of the critical section, 2 of 5 tasks were left whole; here it
was all 5, in the hands of another worker 3 ms after the kill. Besides, a slot holds 64 bytes and no value, and who
waits at the ring blocks its thread, where a claim lets the loop go on.
"""

from lightactors.scheduling.queue import TaskQueue as TaskQueue
from lightactors.scheduling.records import Claim as Claim
from lightactors.scheduling.records import QueueStatistics as QueueStatistics
from lightactors.scheduling.records import WorkerState as WorkerState
from lightactors.scheduling.working import tasks_of as tasks_of
