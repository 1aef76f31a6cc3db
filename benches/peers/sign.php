<?php
// Signing in PHP, as documented.
//
// In the timed loop: one call of the documented form per id, 256 ids in turn. The protocol is that of ../step.h.

const KEY = 'HMAC_KEY_FROM_ADMIN_CONSOLE';
const ANSWER = 'e070ea58e2b1d7d01a9570b89fc99e76c73cf3dc8aab4f31ae0136821f8f0199';

function documented(array $ids, int $count): string
{
    $signature = '';
    for ($i = 0; $i < $count; $i++) {
        $signature = hash_hmac('sha256', $ids[$i % 256], KEY, false);
    }
    return $signature;
}

function cpu_ns(): int
{
    $usage = getrusage();
    return ($usage['ru_utime.tv_sec'] + $usage['ru_stime.tv_sec']) * 1000000000
        + ($usage['ru_utime.tv_usec'] + $usage['ru_stime.tv_usec']) * 1000;
}

$ids = array_map(fn (int $i): string => sprintf('my_application_user_%03d', ($i + 123) % 1000), range(0, 255));
if (documented($ids, 1) !== ANSWER) {
    fwrite(STDERR, "not the known answer\n");
    exit(1);
}
while (($line = fgets(STDIN)) !== false) {
    [$name, $count] = explode(' ', trim($line));
    $cpu = cpu_ns();
    $wall = hrtime(true);
    $name($ids, (int) $count);
    echo cpu_ns() - $cpu, ' ', hrtime(true) - $wall, "\n";
}
