/* libfcgi on the socket at descriptor 0. */
#include <fcgiapp.h>

int main(void)
{
    FCGX_Request request;

    FCGX_Init();
    FCGX_InitRequest(&request, 0, 0);
    while (FCGX_Accept_r(&request) == 0) {
        FCGX_PutS("Content-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!", request.out);
        FCGX_Finish_r(&request);
    }
    return 0;
}
