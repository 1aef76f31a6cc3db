/* What may go to a terminal: characters, marks, colours. */
#ifndef SCREEN_H
#define SCREEN_H

#include <stdio.h>

/* Looks at stdout and the environment. */
void screen_look(void);

/* Prints a text, filled up with blanks to a number of characters. Characters that the terminal would obey or could not
 * show become question marks. */
void screen_put(const char *text, size_t width);

/* Prints the first text if characters are UTF-8, else the second. Stdout that is a terminal shows it in a colour, which
 * is a parameter of SGR. */
void screen_mark(const char *utf8, const char *ascii, const char *colour);

#endif
