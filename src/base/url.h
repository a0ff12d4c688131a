/* Addresses with a user and a password in them, which nobody but their server is to see. Pure functions. */
#pragma once

void url_cut_users(char *text);
