/*
 * The role of the admin process: metrics, health checks, status and the dashboard. It works while every worker hangs.
 */
#pragma once

struct child;

int admin_main(const struct child *c);
